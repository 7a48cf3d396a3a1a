# What is equal for all: the study and its cases as files, and for each seed one start


rule study:
    output:
        f"{plan.folder}/study.json",
    log:
        f"{plan.folder}/logs/study.log",
    params:
        study=plan.study_json,
    localrule: True
    shell:
        "python -m levelfield study --json {params.study:q} --out {output:q} 2> {log:q}"


rule case:
    input:
        f"{plan.folder}/data/data.json",
    output:
        f"{plan.folder}/cases/{{case}}.json",
    log:
        f"{plan.folder}/logs/cases/{{case}}.log",
    params:
        case=plan.case_json,
    localrule: True
    shell:
        "python -m levelfield case --json {params.case:q} --data {input:q} --out {output:q} 2> {log:q}"


rule start:
    input:
        f"{plan.folder}/data/data.json",
    output:
        multiext(f"{plan.folder}/start/seed-{{seed}}.npz", "", ".sha256"),
    log:
        f"{plan.folder}/logs/start/seed-{{seed}}.log",
    params:
        protocol=plan.start_json,
    localrule: True
    shell:
        "python -m levelfield start"
        " --protocol {params.protocol:q}"
        " --seed {wildcards.seed}"
        " --data {input:q}"
        " --out {output[0]:q}"
        " 2> {log:q}"
