# What a person reads: tidy records, tables, figures, the page


rule collect:
    input:
        rules.data.output.description,
        plan.each_finished,
        plan.proof.each(),
        containers.analysis_inputs,
        study=rules.study.output[0],
    output:
        multiext(f"{plan.folder}/", "runs.parquet", "epochs.parquet", "steps.parquet"),
    log:
        f"{plan.folder}/logs/collect.log",
    container:
        containers.analysis
    params:
        folder=subpath(input.study, parent=True),
        code=plan.tell_sha256,
    shell:
        "python -m levelfield collect {params.folder:q} 2>&1 | told {log:q}"


rule tables:
    input:
        rules.collect.output,
        containers.analysis_inputs,
        study=rules.study.output[0],
    output:
        report(
            directory(f"{plan.folder}/tables"),
            patterns=["{name}.csv"],
            category=plan.category,
            labels={"what": "{name}", "as": "table"},
            caption="../report/tables.rst",
        ),
        f"{plan.folder}/README.md",
    log:
        f"{plan.folder}/logs/tables.log",
    container:
        containers.analysis
    params:
        folder=subpath(input.study, parent=True),
        code=plan.tell_sha256,
    shell:
        "python -m levelfield tables {params.folder:q} 2>&1 | told {log:q}"


rule figures:
    input:
        rules.collect.output,
        containers.analysis_inputs,
        study=rules.study.output[0],
    output:
        report(
            directory(f"{plan.folder}/figures"),
            patterns=["{name}.svg"],
            category=plan.category,
            labels={"what": "{name}", "as": "figure"},
            caption="../report/figures.rst",
        ),
    log:
        f"{plan.folder}/logs/figures.log",
    container:
        containers.analysis
    params:
        folder=subpath(input.study, parent=True),
        code=plan.tell_sha256,
    shell:
        "python -m levelfield figures {params.folder:q} 2>&1 | told {log:q}"


rule report:
    input:
        rules.collect.output,
        plan.exchange.if_asked,
        containers.analysis_inputs,
        study=rules.study.output[0],
    output:
        report(
            f"{plan.folder}/report.html",
            category="1 Verdict",
            labels={"what": "everything", "as": "page"},
            caption="../report/page.rst",
        ),
    log:
        f"{plan.folder}/logs/report.log",
    container:
        containers.analysis
    params:
        folder=subpath(input.study, parent=True),
        code=plan.tell_sha256,
    shell:
        "python -m levelfield report {params.folder:q} 2>&1 | told {log:q}"


onerror:
    # what finished is told all the same, failed and missing runs as such; a block leaves that to who started it
    if plan.starts_runs:
        shell(
            f"test ! -e {plan.folder}/runs || {containers.analysis_call} python -m levelfield tell {plan.folder}"
        )
