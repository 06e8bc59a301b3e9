output "coordinators" {
  description = "Where agents and people reach the coordinators, by name."
  value       = local.addresses
  depends_on  = [terraform_data.cluster]
}

output "program" {
  description = "The SHA-256 of the program that all hosts run."
  value       = terraform_data.cluster.triggers_replace.program
}
