# The containers that the rules run in: built once, on the machine that has the network


rule image:
    output:
        multiext("results/.images/{name}-{kind}-{hash}", ".json", ".sif"),
    log:
        "results/.images/{name}-{kind}-{hash}.log",
    localrule: True
    wildcard_constraints:
        kind="cuda|cpu|ready",
        hash="[0-9a-f]{8}",
    params:
        what=containers.arguments,
    shell:
        "python -m levelfield images build {params.what} 2>&1 | tee {log:q}"


rule images:
    localrule: True
    input:
        containers.files,


# all that needs the network: afterwards the jobs run on machines that have none
rule prepare:
    localrule: True
    input:
        rules.data.output,
        expand(rules.start.output, seed=plan.seeds),
        containers.files() if containers.used else [],
