variable "REPO" {
  default = "registry.example/shop"
}

group "default" {
  targets = ["base", "api", "site", "web", "job"]
}

target "_both" {
  platforms = ["linux/amd64", "linux/arm64"]
}

target "base" {
  inherits = ["_both"]
  context  = "base"
  tags     = ["${REPO}/base:1"]
}

target "_on_base" {
  contexts = { base = "target:base" }
  secret   = ["id=license,src=license.txt", "id=token,env=SHOP_TOKEN"]
}

target "api" {
  inherits = ["_both", "_on_base"]
  context  = "api"
  args     = { VERSION = "1.2.3" }
  tags     = ["${REPO}/api:1"]
}

target "site" {
  inherits = ["_both", "_on_base"]
  context  = "site"
  tags     = ["${REPO}/site:1"]
}

target "web" {
  context   = "web"
  platforms = ["linux/amd64"]
  contexts  = { site = "target:site" }
  labels    = { "org.example.part" = "front" }
  tags      = ["${REPO}/web:1", "${REPO}/web:latest"]
}

target "job" {
  context   = "job"
  platforms = ["linux/amd64"]
  contexts  = { base = "target:base", api = "target:api" }
  tags      = ["${REPO}/job:1"]
}
