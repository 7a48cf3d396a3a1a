# With `--config runs=blocks`: all cases of one seed and size in one job, in a row on one device


rule block:
    input:
        description=rules.data.output.description,
        arrays=rules.data.output.arrays,
        cases=plan.blocks.case_files,
        starts=plan.blocks.start_files,
        parity=plan.blocks.parity_files,
        images=containers.inputs_of_block,
        # what it says of other seeds or of the tables makes no block anew
        study=ancient(f"{plan.folder}/study.json"),
    output:
        touch(f"{plan.folder}/blocks/{{block}}.done"),
    log:
        f"{plan.folder}/logs/blocks/{{block}}.log",
    priority: plan.block_priority
    # each run in it has its own
    container:
        containers.none
    threads: plan.threads(workflow.resource_settings.cores)
    resources:
        runtime=plan.blocks.minutes,
    params:
        runs=plan.blocks.runs,
        train=sha256_of_shell(rules.train.rule),
        snakemake=lambda wildcards: inner_arguments(workflow, plan.replace),
    shell:
        "python -m levelfield block {params.runs:q}"
        " --study {input.study:q}"
        " --threads {threads}"
        " --snakemake={params.snakemake:q}"
        " 2>&1 | told {log:q}"
