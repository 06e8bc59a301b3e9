# Nothing but what is part of Terraform: no provider is downloaded.
terraform {
  required_version = ">= 1.4"
}
