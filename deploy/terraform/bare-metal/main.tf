# Two kinds of things: each host, which does nothing until it is removed, and the cluster, whose script brings all hosts, one by one, to
# what is wanted. What a host remembers is what its removal needs: by then it is in no variable any more.

locals {
  port         = 7400
  coordinators = { for host in var.hosts : host.name => host if host.role == "coordinator" }
  agents       = { for host in var.hosts : host.name => host if host.role == "agent" }
  reached      = { for name, host in local.coordinators : name => trim(coalesce(host.address, host.ssh), "[]") }
  # One of IPv6 is in brackets where a port follows.
  addresses = {
    for name, at in local.reached : name => length(regexall(":", at)) > 0 ? "[${at}]:${local.port}" : "${at}:${local.port}"
  }

  # ssh takes no brackets.
  targets = { for host in var.hosts : host.name => trim(host.ssh, "[]") }

  # Whom to ask, one after the other.
  doors = [for name, address in local.addresses : "${name} ${local.targets[name]} ${address}"]

  labels = {
    for name, host in local.agents : name => merge(host.labels, host.rack == null ? {} : { rack = host.rack })
  }
  # A string of JSON is a string of TOML.
  settings = {
    for name, labels in local.labels : name =>
    "labels = { ${join(", ", [for label, value in labels : "${jsonencode(label)} = ${jsonencode(value)}"])} }\n"
  }
  lines = concat(
    [for host in var.hosts : "coordinator ${host.name} ${local.targets[host.name]} ${local.addresses[host.name]} -" if host.role == "coordinator"],
    [for host in var.hosts : "agent ${host.name} ${local.targets[host.name]} - ${base64encode(local.settings[host.name])}" if host.role == "agent"],
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
    FLOWYARD_TARGET  = local.targets[each.key]
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
    FLOWYARD_TARGET       = local.targets[each.key]
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
    hosts   = join("\n", concat(local.lines, [var.agent_settings]))
  }

  depends_on = [terraform_data.coordinator, terraform_data.agent]

  provisioner "local-exec" {
    command = "sh '${path.module}/scripts/converge.sh'"
    environment = merge(
      local.ssh,
      {
        FLOWYARD_CLUSTER      = var.cluster
        FLOWYARD_PROGRAM      = var.program
        FLOWYARD_SHA256       = filesha256(var.program)
        FLOWYARD_SETTINGS     = var.agent_settings
        FLOWYARD_COORDINATORS = join("\n", local.doors)
      },
      { for number, some in chunklist(local.lines, 50) : "FLOWYARD_HOSTS_${number}" => join("\n", some) },
    )
  }
}
