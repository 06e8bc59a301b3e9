# Two kinds of things: each host, which does nothing until it is removed, and the cluster, whose script brings all hosts, one by one, to
# what is wanted. What a host remembers is what its removal needs: by then it is in no variable any more.

locals {
  port         = 7400
  coordinators = { for host in var.hosts : host.name => host if host.role == "coordinator" }
  agents       = { for host in var.hosts : host.name => host if host.role == "agent" }
  addresses    = { for name, host in local.coordinators : name => "${coalesce(host.address, host.ssh)}:${local.port}" }

  # Whom to ask, one after the other.
  doors = [for name, host in local.coordinators : "${name} ${host.ssh} ${local.addresses[name]}"]

  labels = {
    for name, host in local.agents : name => merge(host.labels, host.rack == null ? {} : { rack = host.rack })
  }
  # A string of JSON is a string of TOML.
  settings = {
    for name, host in local.agents : name => join("\n", [
      "# Written by Terraform; the next apply replaces what is changed here.",
      "[agent]",
      "labels = { ${join(", ", [for label, value in local.labels[name] : "${jsonencode(label)} = ${jsonencode(value)}"])} }",
      var.agent_settings,
      "",
    ])
  }
  lines = concat(
    [for host in var.hosts : "coordinator ${host.name} ${host.ssh} ${local.addresses[host.name]} -" if host.role == "coordinator"],
    [for host in var.hosts : "agent ${host.name} ${host.ssh} - ${base64encode(local.settings[host.name])}" if host.role == "agent"],
  )

  ssh = {
    FLOWYARD_USER       = var.ssh_user
    FLOWYARD_SSH_CONFIG = var.ssh_config
    FLOWYARD_LOCK       = "${path.root}/.flowyard-${var.cluster}.lock"
    FLOWYARD_PATIENCE   = tostring(var.patience_seconds)
    FLOWYARD_SETTLE     = tostring(var.settle_seconds)
  }
}

resource "terraform_data" "coordinator" {
  for_each = local.coordinators

  input = merge(local.ssh, {
    FLOWYARD_ROLE    = "coordinator"
    FLOWYARD_NAME    = each.key
    FLOWYARD_TARGET  = each.value.ssh
    FLOWYARD_ADDRESS = local.addresses[each.key]
    FLOWYARD_DRAIN   = var.drain_deadline
    # The others first: one that leaves is not the best to ask.
    FLOWYARD_COORDINATORS = join("\n", concat(
      [for door in local.doors : door if !startswith(door, "${each.key} ")],
      [for door in local.doors : door if startswith(door, "${each.key} ")],
    ))
  })

  provisioner "local-exec" {
    when        = destroy
    command     = "sh '${path.module}/scripts/remove.sh'"
    environment = self.input
  }
}

resource "terraform_data" "agent" {
  for_each = local.agents

  input = merge(local.ssh, {
    FLOWYARD_ROLE         = "agent"
    FLOWYARD_NAME         = each.key
    FLOWYARD_TARGET       = each.value.ssh
    FLOWYARD_ADDRESS      = "-"
    FLOWYARD_DRAIN        = var.drain_deadline
    FLOWYARD_COORDINATORS = join("\n", local.doors)
  })

  # So that agents go before the coordinators through which they are emptied.
  depends_on = [terraform_data.coordinator]

  provisioner "local-exec" {
    when        = destroy
    command     = "sh '${path.module}/scripts/remove.sh'"
    environment = self.input
  }
}

resource "terraform_data" "cluster" {
  triggers_replace = {
    cluster = var.cluster
    program = filesha256(var.program)
    hosts   = join("\n", local.lines)
  }

  depends_on = [terraform_data.coordinator, terraform_data.agent]

  provisioner "local-exec" {
    command = "sh '${path.module}/scripts/converge.sh'"
    environment = merge(local.ssh, {
      FLOWYARD_CLUSTER      = var.cluster
      FLOWYARD_PROGRAM      = var.program
      FLOWYARD_SHA256       = filesha256(var.program)
      FLOWYARD_HOSTS        = join("\n", local.lines)
      FLOWYARD_COORDINATORS = join("\n", local.doors)
    })
  }
}
