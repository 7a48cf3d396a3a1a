# What is equal for all: the study and its cases as files, and for each seed one start

FIRST = 2_000_000  # before proof and timing, whose order would else be that in which these files come


rule study:
    input:
        containers.analysis_inputs,
    output:
        f"{plan.folder}/study.json",
    log:
        f"{plan.folder}/logs/study.log",
    priority: FIRST  # where every run fails, the tables still tell it
    container:
        containers.analysis
    params:
        study=plan.study_json,
    shell:
        "python -m levelfield study --json {params.study:q} --out {output:q} 2> {log:q}"


rule case:
    input:
        containers.analysis_inputs,
        description=rules.data.output.description,
    output:
        f"{plan.folder}/cases/{{case}}.json",
    log:
        f"{plan.folder}/logs/cases/{{case}}.log",
    priority: FIRST
    container:
        containers.analysis
    params:
        case=plan.case_json,
    shell:
        "python -m levelfield case --json {params.case:q} --data {input.description:q} --out {output:q} 2> {log:q}"


rule start:
    input:
        containers.analysis_inputs,
        description=rules.data.output.description,
    output:
        start=f"{plan.folder}/start/{{model}}/seed-{{seed}}.npz",
        checksum=f"{plan.folder}/start/{{model}}/seed-{{seed}}.npz.sha256",
    log:
        f"{plan.folder}/logs/start/{{model}}/seed-{{seed}}.log",
    priority: FIRST
    container:
        containers.analysis
    params:
        protocol=plan.starts.json,
        data=subpath(input.description, parent=True),
    shell:
        "python -m levelfield start"
        " --protocol {params.protocol:q}"
        " --seed {wildcards.seed}"
        " --data {params.data:q}"
        " --out {output.start:q}"
        " 2> {log:q}"
