# Weights that one case trained, evaluated by every other: `snakemake exchange`


rule evaluate_others:
    input:
        case=f"{plan.folder}/cases/{{case}}.json",
        description=rules.data.output.description,
        arrays=rules.data.output.arrays,
        weights=plan.exchange.inputs,
        image=containers.inputs_of_case,
    output:
        f"{plan.folder}/exchange/{{case}}.json",
    log:
        f"{plan.folder}/logs/exchange/{{case}}.log",
    container:
        containers.of_case
    # as rule train: the same kernels on the same device
    threads: plan.threads(workflow.resource_settings.cores)
    resources:
        runtime=plan.minutes,
    params:
        data=subpath(input.description, parent=True),
        weights=plan.exchange.weights,
    shell:
        "python -m levelfield exchange"
        " --case {input.case:q}"
        " --data {params.data:q}"
        " --weights {params.weights:q}"
        " --threads {threads}"
        " --minutes {resources.runtime}"
        " --image {input.image:q}"
        " --out {output:q}"
        " 2>&1 | told {log:q}"


rule exchange:
    input:
        containers.analysis_inputs,
        exchanged=plan.exchange.each,
    output:
        multiext(f"{plan.folder}/", "exchange.json", "exchange.csv"),
    log:
        f"{plan.folder}/logs/exchange.log",
    container:
        containers.analysis
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "python -m levelfield exchange-matrix"
        " {input.exchanged:q}"
        " --out {params.folder:q}"
        " 2>&1 | told {log:q}"
