# What both modules have, each by a link to this file. Nothing but what is part of Terraform: no provider is downloaded.

terraform {
  required_version = ">= 1.4"
}

variable "cluster" {
  description = "What people call the cluster."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", var.cluster))
    error_message = "A name begins with a letter or digit and goes on with letters, digits, dots, dashes and underscores."
  }
}

variable "agent_settings" {
  description = "Lines below [agent] of an agent's config.toml, beside its labels. See docs/operators.md."
  type        = string
  default     = ""
}
