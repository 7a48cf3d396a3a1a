# The containers that the rules run in: built once, on the machine that has the network


rule image:
    output:
        multiext("results/.images/{name}-{kind}-{hash}", ".json", ".sif"),
    log:
        "results/.images/{name}-{kind}-{hash}.log",
    wildcard_constraints:
        kind="cuda|cpu|ready",
        hash="[0-9a-f]{8}",
    localrule: True
    # on the machine itself: the others' containers are made here
    container:
        containers.none
    params:
        what=containers.arguments,
    shell:
        "python -m levelfield images build {params.what} 2>&1 | told {log:q}"


rule images:
    input:
        containers.files,
    localrule: True


# all that needs the network: afterwards the jobs run on machines that have none
rule prepare:
    input:
        rules.data.output,
        expand(rules.start.output, model=plan.starts.names, seed=plan.seeds),
        containers.files() if containers.used else [],
    localrule: True
