package main

import (
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/registry"
)

// registries are the flags that say how registries are reached.
type registries struct {
	insecure []string
	mirrors  []string
	authFile string
}

func (r *registries) flags(f *pflag.FlagSet) {
	r.insecureFlag(f)
	r.authFlag(f)
	eachVar(f, "registry-mirror", "", "[HOST=]MIRROR", "ask MIRROR before HOST, docker.io if none is named (default $CAIRN_REGISTRY_MIRROR)",
		func(s string) error {
			r.mirrors = append(r.mirrors, s)
			return nil
		})
}

func (r *registries) authFlag(f *pflag.FlagSet) {
	f.StringVar(&r.authFile, "authfile", "", "the one `FILE` with passwords (default $DOCKER_CONFIG/config.json and the other usual places)")
}

func (r *registries) insecureFlag(f *pflag.FlagSet) {
	eachVar(f, "insecure-registry", "", "HOST", "allow plain HTTP, and certificates that are not trusted (default $CAIRN_INSECURE_REGISTRY)",
		func(s string) error {
			r.insecure = append(r.insecure, s)
			return nil
		})
}

// options adds what the environment says, in lists separated by commas.
func (r *registries) options() (registry.Options, error) {
	o := registry.Options{
		Insecure: r.insecure, Mirrors: map[string][]string{}, AuthFile: r.authFile, UserAgent: "cairn/" + versionText(),
	}
	if len(o.Insecure) == 0 {
		o.Insecure = fromEnv("CAIRN_INSECURE_REGISTRY")
	}
	mirrors := r.mirrors
	if len(mirrors) == 0 {
		mirrors = fromEnv("CAIRN_REGISTRY_MIRROR")
	}
	for _, m := range mirrors {
		host, mirror, ok := strings.Cut(m, "=")
		if !ok {
			host, mirror = "docker.io", m
		}
		if host == "" || mirror == "" {
			return o, usagef("registry mirror %q: want [HOST=]MIRROR", m)
		}
		o.Mirrors[host] = append(o.Mirrors[host], mirror)
	}
	return o, nil
}

func fromEnv(name string) []string {
	return strings.FieldsFunc(os.Getenv(name), func(r rune) bool { return r == ',' || r == ' ' })
}
