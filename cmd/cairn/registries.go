package main

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/rules"
)

// registries are the flags that say how registries are reached, and how much is
// taken from them and others.
type registries struct {
	insecure []string
	mirrors  []string
	authFile string
	cas      map[string][]string
	certs    map[string]registry.ClientCert
	short    bool
	limits   builder.Limits
}

func (r *registries) flags(f *pflag.FlagSet) {
	r.insecureFlag(f)
	r.authFlag(f)
	r.certFlags(f)
	eachVar(f, "registry-mirror", "", "[HOST=]MIRROR", "ask MIRROR before HOST, docker.io if none is named (default $CAIRN_REGISTRY_MIRROR)",
		func(s string) error {
			r.mirrors = append(r.mirrors, s)
			return nil
		})
	r.shortFlag(f)
}

// shortFlag is for commands that take names of images to pull.
func (r *registries) shortFlag(f *pflag.FlagSet) {
	f.BoolVar(&r.short, "short-names", false, "have registries.conf say what names without a registry mean, instead of Docker Hub (default $CAIRN_SHORT_NAMES)")
}

// certFlags are those for registries whose certificates only some people know.
func (r *registries) certFlags(f *pflag.FlagSet) {
	eachVar(f, "registry-certificate", "", "[HOST=]FILE", "trust the authority in FILE too, for HOST or for all registries", func(s string) error {
		host, file, ok := strings.Cut(s, "=")
		if !ok {
			host, file = "", s
		}
		if file == "" {
			return errors.New("want [HOST=]FILE")
		}
		if r.cas == nil {
			r.cas = map[string][]string{}
		}
		r.cas[host] = append(r.cas[host], file)
		return nil
	})
	eachVar(f, "registry-client-cert", "", "HOST=CERT,KEY", "show a certificate to the registry HOST", func(s string) error {
		host, files, _ := strings.Cut(s, "=")
		cert, key, _ := strings.Cut(files, ",")
		if host == "" || cert == "" || key == "" {
			return errors.New("want HOST=CERT,KEY")
		}
		if r.certs == nil {
			r.certs = map[string]registry.ClientCert{}
		}
		r.certs[host] = registry.ClientCert{Cert: cert, Key: key}
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
		CAs: r.cas, ClientCerts: r.certs, ShortNames: r.short,
	}
	home, _ := os.UserHomeDir() // without one, only the machine's files
	o.CertDirs = registry.CertDirs(home)
	var err error
	if o.Rules, err = rules.Load(rules.Files(os.Getenv("CONTAINERS_REGISTRIES_CONF"), home)); err != nil {
		return o, err
	}
	if on := os.Getenv("CAIRN_SHORT_NAMES"); on != "" && !r.short {
		if o.ShortNames, err = strconv.ParseBool(on); err != nil {
			return o, usagef("CAIRN_SHORT_NAMES=%q: want 1 or 0", on)
		}
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
		if i := strings.LastIndexByte(m, '@'); i >= 0 {
			return o, usagef("registry mirror xxxxx@%s: leave out user and password (cairn login keeps them)", m[i+1:])
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
