# Nothing is made and no provider is needed: it renders text.
terraform {
  required_version = ">= 1.4"
}
