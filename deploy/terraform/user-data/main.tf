# The same host.sh as by SSH, brought by cloud-init, and a script that calls it once.

locals {
  folder = "/usr/local/lib/flowyard"
  labels = merge(var.labels, var.rack == "" ? {} : { rack = var.rack })
  # A string of JSON is a string of TOML.
  settings = join("\n", [
    "# Written at the first boot.",
    "[agent]",
    "labels = { ${join(", ", [for label, value in local.labels : "${jsonencode(label)} = ${jsonencode(value)}"])} }",
    var.agent_settings,
    "",
  ])
  wanted = join("\n", [
    "CLUSTER='${var.cluster}'",
    "ROLE='${var.role}'",
    "NAME='${var.name}'",
    "ADDRESS='${var.address}'",
    "URL='${var.program_url}'",
    "SHA256='${var.program_sha256}'",
    "",
  ])
  files = merge(
    {
      "host.sh"        = file("${path.module}/../scripts/host.sh")
      "first-boot.sh"  = file("${path.module}/first-boot.sh")
      "first-boot.env" = local.wanted
    },
    var.role == "agent" ? { "config.toml" = local.settings } : {},
    var.token == "" ? {} : { "token" = "${var.token}\n" },
  )

  # JSON is YAML, and what cloud-init reads.
  user_data = "#cloud-config\n${jsonencode({
    write_files = [
      for name, text in local.files : {
        path        = "${local.folder}/${name}"
        owner       = "root:root"
        permissions = "0600"
        encoding    = "b64"
        content     = base64encode(text)
      }
    ]
    runcmd = [["sh", "${local.folder}/first-boot.sh"]]
  })}\n"
}

output "user_data" {
  description = "What the cloud's instance is given as user data. It has the token, if there is one."
  value       = local.user_data
  sensitive   = true

  precondition {
    condition     = var.role == "coordinator" || var.token != ""
    error_message = "An agent needs a token: fctl token create --role agent --ttl 1h"
  }
}
