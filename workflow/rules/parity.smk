# Proof before timing: one float64 trajectory a start, and each case's distance from it


rule reference:
    input:
        data=rules.data.output,
        start=plan.parity_start,
    output:
        f"{plan.folder}/parity/reference-{{digest}}.npz",
    log:
        f"{plan.folder}/logs/parity/reference-{{digest}}.log",
    localrule: True
    params:
        protocol=plan.reference_json,
        data=f"{plan.folder}/data",
    # one BLAS thread: its products are small, two take three times as long
    shell:
        "OPENBLAS_NUM_THREADS=1 python -m levelfield reference"
        " --protocol {params.protocol:q}"
        " --data {params.data:q}"
        " --start {input.start:q}"
        " --out {output:q}"
        " 2>&1 | tee {log:q}"


rule parity:
    input:
        case=f"{plan.folder}/cases/{{case}}.json",
        data=rules.data.output,
        start=plan.parity_start,
        reference=plan.reference_of,
    output:
        f"{plan.folder}/parity/{{case}}.json",
    log:
        f"{plan.folder}/logs/parity/{{case}}.log",
    # as rule train: the same kernels on the same device
    threads: workflow.cores or 1
    params:
        data=f"{plan.folder}/data",
    shell:
        "python -m levelfield parity"
        " --case {input.case:q}"
        " --data {params.data:q}"
        " --start {input.start:q}"
        " --reference {input.reference:q}"
        " --threads {threads}"
        " --out {output:q}"
        " 2>&1 | tee {log:q}"
