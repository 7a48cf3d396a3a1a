# The reviews: found or downloaded, checked, encoded and padded, once a study


rule data:
    input:
        containers.analysis_inputs,
    output:
        arrays=multiext(
            f"{plan.folder}/data/",
            "x_train.npy",
            "y_train.npy",
            "x_val.npy",
            "y_val.npy",
        ),
        description=f"{plan.folder}/data/data.json",
    log:
        f"{plan.folder}/logs/data.log",
    container:
        containers.analysis
    params:
        settings=plan.data_json,
        source=plan.data_tracked,
        vocabulary=plan.study.protocol.vocabulary,
        length=plan.study.length,
        padding=plan.study.protocol.padding,
        truncation=plan.study.protocol.truncation,
        downloads=plan.downloads,
        out=subpath(output.description, parent=True),
    shell:
        "python -m levelfield data"
        " --settings {params.settings:q}"
        " --vocabulary {params.vocabulary}"
        " --length {params.length}"
        " --padding {params.padding}"
        " --truncation {params.truncation}"
        " --downloads {params.downloads:q}"
        " --out {params.out:q}"
        " 2>&1 | told {log:q}"
