# Proof before timing: one float64 trajectory a start, and each case's distance from it


rule reference:
    input:
        description=rules.data.output.description,
        arrays=rules.data.output.arrays,
        start=plan.proof.reference_start,
        image=containers.analysis_inputs,
    output:
        f"{plan.folder}/parity/reference-{{digest}}.npz",
    log:
        f"{plan.folder}/logs/parity/reference-{{digest}}.log",
    priority: FIRST
    container:
        containers.analysis
    params:
        protocol=plan.proof.reference_json,
        data=subpath(input.description, parent=True),
    # one BLAS thread: its products are small, two take three times as long
    shell:
        "OPENBLAS_NUM_THREADS=1 python -m levelfield reference"
        " --protocol {params.protocol:q}"
        " --data {params.data:q}"
        " --start {input.start:q}"
        " --out {output:q}"
        " 2>&1 | told {log:q}"


rule parity:
    input:
        case=f"{plan.folder}/cases/{{case}}.json",
        description=rules.data.output.description,
        arrays=rules.data.output.arrays,
        start=plan.proof.start,
        reference=plan.proof.reference,
        image=containers.inputs_of_case,
    output:
        f"{plan.folder}/parity/{{case}}.json",
    log:
        f"{plan.folder}/logs/parity/{{case}}.log",
    priority: 1_000_000  # proof before timing
    container:
        containers.of_case
    # as rule train: the same kernels on the same device
    threads: plan.threads(workflow.resource_settings.cores)
    resources:
        runtime=plan.minutes,
    params:
        data=subpath(input.description, parent=True),
    shell:
        "python -m levelfield parity"
        " --case {input.case:q}"
        " --data {params.data:q}"
        " --start {input.start:q}"
        " --reference {input.reference:q}"
        " --threads {threads}"
        " --minutes {resources.runtime}"
        " --image {input.image:q}"
        " --out {output:q}"
        " 2>&1 | told {log:q}"
