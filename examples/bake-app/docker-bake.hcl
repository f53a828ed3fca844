variable "REGISTRY" {
  default = "registry.example"
}
variable "VERSION" {
  default = "dev"
}

group "default" {
  targets = ["greet", "count"]
}

# The compiler and the source of all programs. It is built because the others use it.
target "build" {
  dockerfile = "build.Dockerfile"
  args       = { VERSION = VERSION }
}

target "_program" {
  contexts  = { build = "target:build" }
  platforms = ["linux/amd64", "linux/arm64"]
}

target "greet" {
  inherits = ["_program"]
  args     = { PROGRAM = "greet" }
  tags     = ["${REGISTRY}/bake-app/greet:1"]
}

target "count" {
  inherits = ["_program"]
  args     = { PROGRAM = "count" }
  tags     = ["${REGISTRY}/bake-app/count:1"]
}
