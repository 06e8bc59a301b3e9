variable "role" {
  description = "What the machine becomes: `coordinator` or `agent`."
  type        = string

  validation {
    condition     = contains(["coordinator", "agent"], var.role)
    error_message = "The role of a machine is `coordinator` or `agent`."
  }
}

variable "name" {
  description = "The name of the node; the machine's own name if not given."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9][A-Za-z0-9._-]*)?$", var.name))
    error_message = "A name begins with a letter or digit and goes on with letters, digits, dots, dashes and underscores."
  }
}

variable "address" {
  description = "Where other machines reach a coordinator, as HOST:PORT; the machine's own name and port 7400 if not given."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]+)?$", var.address))
    error_message = "Write an address as HOST:PORT; one of IPv6 is in brackets."
  }
}

variable "program_url" {
  description = "Where the machine gets the program `fctl`."
  type        = string

  validation {
    condition     = can(regex("^https?://[A-Za-z0-9._~:/?#@!$&()*+,;=%-]+$", var.program_url))
    error_message = "The program comes from an address that begins with https:// (or http://; its checksum is what it is trusted by)."
  }
}

variable "program_sha256" {
  description = "The SHA-256 of the program, in hex: what comes from the address is run only if it is this."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.program_sha256))
    error_message = "A SHA-256 is 64 hex digits."
  }
}

variable "token" {
  description = <<-EOT
    The token that lets the machine in: the last word of what `fctl token create --role coordinator|agent --ttl 1h` prints. It is good for one
    machine. Leave it out for the first coordinator, which forms the cluster.
  EOT
  type        = string
  default     = ""
  sensitive   = true

  validation {
    condition     = can(regex("^(fyt1-[A-Za-z0-9_.=:/+-]+)?$", var.token))
    error_message = "A token to join begins with fyt1-; `fctl token create` prints one."
  }
}

variable "labels" {
  description = "Labels of the node."
  type        = map(string)
  default     = {}
}

variable "rack" {
  description = "The rack of the node, a label too."
  type        = string
  default     = ""
}
