# The main job: one case with one seed, one process, alone on its device


rule train:
    input:
        case=f"{plan.folder}/cases/{{case}}.json",
        data=rules.data.output,
        start=f"{plan.folder}/start/seed-{{seed}}.npz",
        parity=plan.parity_of,
        image=containers.inputs_of_case,
    output:
        multiext(
            f"{plan.folder}/runs/{{case}}/seed-{{seed}}/",
            "run.json",
            "epochs.csv",
            "steps.npz",
            "weights.npz",
        ),
    log:
        f"{plan.folder}/logs/train/{{case}}/seed-{{seed}}.log",
    container:
        containers.of_case
    priority: plan.priority
    # all threads, so that no other job runs beside it
    threads: workflow.cores or 1
    params:
        study=plan.study.study,
        data=f"{plan.folder}/data",
        out=f"{plan.folder}/runs/{{case}}/seed-{{seed}}",
    shell:
        "python -m levelfield train"
        " --study {params.study:q}"
        " --case {input.case:q}"
        " --seed {wildcards.seed}"
        " --data {params.data:q}"
        " --start {input.start:q}"
        " --parity {input.parity:q}"
        " --threads {threads}"
        " --image {input.image:q}"
        " --out {params.out:q}"
        " 2>&1 | tee {log:q}"
