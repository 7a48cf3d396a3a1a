include: "workflow/Snakefile"


# the targets of an included file never become the default
workflow.default_target = "all"
