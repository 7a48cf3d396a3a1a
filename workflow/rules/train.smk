# The main job: one case with one seed, one process, alone on its device


rule train:
    input:
        case=f"{plan.folder}/cases/{{case}}.json",
        description=rules.data.output.description,
        arrays=rules.data.output.arrays,
        start=plan.starts.of_run,
        parity=plan.proof.of_case,
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
    priority: plan.priority
    container:
        containers.of_case
    # all threads, so that no other job runs beside it on its device
    threads: plan.threads(workflow.resource_settings.cores)
    # a resource, since a change of it makes no finished run anew, as one of a parameter would
    resources:
        runtime=plan.minutes,
        retakes=plan.study.retakes,
    params:
        study=plan.study.study,
        data=subpath(input.description, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m levelfield train"
        " --study {params.study:q}"
        " --case {input.case:q}"
        " --seed {wildcards.seed}"
        " --data {params.data:q}"
        " --start {input.start:q}"
        " --parity {input.parity:q}"
        " --threads {threads}"
        " --retakes {resources.retakes}"
        " --minutes {resources.runtime}"
        " --calibration results/.calibration"
        " --image {input.image:q}"
        " --out {params.out:q}"
        " 2>&1 | told {log:q}"
