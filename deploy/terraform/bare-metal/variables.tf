variable "hosts" {
  description = <<-EOT
    The hosts. `name` is what the cluster knows it by, and may not change; `ssh` is what ssh is told to reach it (a name, an address, or a
    Host of the OpenSSH configuration); `address` is where the other hosts reach a coordinator, if not at `ssh`. `labels` and `rack` (a
    label too) are those of an agent. One host may be in the list twice, once in each role.
  EOT
  type = list(object({
    name    = string
    role    = string
    ssh     = string
    address = optional(string)
    labels  = optional(map(string), {})
    rack    = optional(string)
  }))

  validation {
    condition     = alltrue([for host in var.hosts : contains(["coordinator", "agent"], host.role)])
    error_message = "The role of a host is `coordinator` or `agent`."
  }
  validation {
    condition     = length(distinct([for host in var.hosts : host.name])) == length(var.hosts)
    error_message = "Each host has a name of its own; a host that has both roles is two entries with two names."
  }
  validation {
    condition     = alltrue([for host in var.hosts : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", host.name))])
    error_message = "A name begins with a letter or digit and goes on with letters, digits, dots, dashes and underscores."
  }
  validation {
    # A name or an address of IPv4; or one of IPv6, with two colons at least.
    condition = alltrue([
      for at in flatten([for host in var.hosts : [host.ssh, coalesce(host.address, host.ssh)]]) :
      can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", at)) || can(regex("^\\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\\]?$", at))
    ])
    error_message = "Where a host is reached is a name or an IP address, without a port and without a user: ssh_config and ssh_user are for these."
  }
  validation {
    condition     = contains([for host in var.hosts : host.role], "coordinator")
    error_message = "A cluster has at least one coordinator; three survive the loss of one."
  }
  validation {
    condition     = alltrue([for host in var.hosts : host.role == "agent" || (host.rack == null && length(host.labels) == 0)])
    error_message = "Only agents have labels and a rack."
  }
}

variable "program" {
  description = "The file of the program `fctl`, built for the hosts. Another one is rolled out host by host."
  type        = string
}

variable "ssh_user" {
  description = "Who logs in to the hosts: root, or somebody whom sudo lets be root without a password."
  type        = string
  default     = "root"
}

variable "ssh_config" {
  description = "An OpenSSH configuration with keys, ports, jump hosts and known hosts; that of whoever runs Terraform if not given."
  type        = string
  default     = ""
}

variable "drain_deadline" {
  description = "How long what runs on a host that is removed may go on. Then it is stopped, and runs again elsewhere."
  type        = string
  default     = "10m"

  validation {
    condition     = can(regex("^[0-9]+(ms|s|m|h|d)$", var.drain_deadline))
    error_message = "A time is a whole number with ms, s, m, h or d."
  }
}

variable "patience_seconds" {
  description = "How long a host may take to be well after its start."
  type        = number
  default     = 180
}

variable "settle_seconds" {
  description = "How long a host must have been well before the next one is touched."
  type        = number
  default     = 5
}
