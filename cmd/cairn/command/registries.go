package command

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/registriesconf"
	"github.com/cairn-build/cairn/registry/taghistory"
	"github.com/cairn-build/cairn/registry/transport"
)

// registryFlags are the flags for access to registries, and the limits of downloads.
type registryFlags struct {
	insecure    []string
	alsoLenient []string // registries with registry.insecure=true or --tls-verify=false
	mirrors     []string
	authFile    string
	noAuth      bool                // the file of credentials may be missing
	authorities map[string][]string // files by host; "" is any host
	certs       map[string]transport.ClientCert
	shortNames  bool
	login       *login // of --creds
	limits      limits.Limits
	pushes      bool                          // the command has --history
	keep        int                           // number of earlier images of a pushed tag; -1: $CAIRN_HISTORY
	adjust      func(*registry.Options) error // last; nil: nothing to do
}

// login is a user of one registry.
type login struct{ host, user, password string }

// flags adds all flags but --limit.
func (r *registryFlags) flags(f *pflag.FlagSet) {
	r.loginFlags(f)
	listFlag(f, &r.mirrors, "registry-mirror", "", "[HOST=]MIRROR", "Try MIRROR before the registry HOST, docker.io by default (default $CAIRN_REGISTRY_MIRROR)", asText)
	f.BoolVar(&r.shortNames, "short-names", false, "Resolve names without a registry as registries.conf says, not at Docker Hub (default $CAIRN_SHORT_NAMES)")
}

// loginFlags adds the flags for access to a single registry.
func (r *registryFlags) loginFlags(f *pflag.FlagSet) {
	listFlag(f, &r.insecure, "insecure-registry", "", "HOST", "Allow plain HTTP and untrusted certificates (default $CAIRN_INSECURE_REGISTRY)", asText)
	r.authFlag(f)
	parsedFlag(f, "stall-timeout", "", "DURATION", "Give up on a server that transfers less than 1 KB a second for DURATION (default 1m, or 2m for ADD and contexts)", func(s string) (err error) {
		if r.limits.Patience, err = option.ParseDuration(s); err == nil && r.limits.Patience < time.Second {
			return errors.New("want 1s or more")
		}
		return err
	})
	r.authorities, r.certs = map[string][]string{}, map[string]transport.ClientCert{}
	repeatedFlag(f, "registry-certificate", "", "[HOST=]FILE", "Trust the certificate authority in FILE as well, for HOST or for all registries", func(s string) error {
		host, file, ok := strings.Cut(s, "=")
		if !ok {
			host, file = "", s
		}
		if file == "" {
			return errors.New("want [HOST=]FILE")
		}
		r.authorities[host] = append(r.authorities[host], file)
		return nil
	})
	repeatedFlag(f, "registry-client-cert", "", "HOST=CERT,KEY", "Client certificate for the registry HOST", func(s string) error {
		host, files, _ := strings.Cut(s, "=")
		cert, key, _ := strings.Cut(files, ",")
		if host == "" || cert == "" || key == "" {
			return errors.New("want HOST=CERT,KEY")
		}
		r.certs[host] = transport.ClientCert{Cert: cert, Key: key}
		return nil
	})
}

func (r *registryFlags) authFlag(f *pflag.FlagSet) {
	f.StringVar(&r.authFile, "authfile", "", "Credentials `FILE`, instead of the default locations ($DOCKER_CONFIG/config.json and others)")
}

// historyFlag adds --history.
func (r *registryFlags) historyFlag(f *pflag.FlagSet) {
	r.pushes, r.keep = true, -1
	parsedFlag(f, "history", "", "N", "Keep the last N images of each pushed tag in its registry, 20 by default, for cairn rollback (default $CAIRN_HISTORY)", func(s string) (err error) {
		r.keep, err = parseKeep(s)
		return err
	})
	f.Lookup("history").NoOptDefVal = strconv.Itoa(taghistory.DefaultKeep)
}

// parseKeep parses a number of earlier images, or 0 for none.
func parseKeep(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n != 0 && (n < taghistory.MinKeep || n > taghistory.MaxKeep) {
		return 0, fmt.Errorf("want a number from %d to %d, or 0 for no history", taghistory.MinKeep, taghistory.MaxKeep)
	}
	return n, nil
}

// recorder returns the recorder of the images that pushed tags replace, or nil.
func (r *registryFlags) recorder(client *registry.Client) (*taghistory.Recorder, error) {
	if !r.pushes {
		return nil, nil
	}
	keep := r.keep
	if text := os.Getenv("CAIRN_HISTORY"); keep < 0 && text != "" {
		n, err := parseKeep(text)
		if err != nil {
			return nil, usagef("$CAIRN_HISTORY %q: %w", text, err)
		}
		keep = n
	}
	if keep <= 0 {
		return nil, nil
	}
	return &taghistory.Recorder{Client: client, Keep: keep, By: historyBy()}, nil
}

// historyBy returns the name of the user or job that sets tags: $CAIRN_HISTORY_BY, or that
// of the CI service's user, or user@host.
func historyBy() string {
	if by, ok := os.LookupEnv("CAIRN_HISTORY_BY"); ok {
		return by
	}
	for _, name := range []string{"GITHUB_ACTOR", "GITLAB_USER_LOGIN"} {
		if by := os.Getenv(name); by != "" {
			return by
		}
	}
	uid, _ := sandbox.HostIDs()
	user := cmp.Or(os.Getenv("USER"), os.Getenv("LOGNAME"), "uid "+strconv.Itoa(uid))
	if uid == 0 {
		user = "root"
	}
	host, err := os.Hostname()
	if err != nil {
		return user
	}
	return user + "@" + host
}

func asText(s string) (string, error) { return s, nil }

// options returns the options of the registry client from the flags, the environment
// and the configuration files.
func (r *registryFlags) options() (registry.Options, error) {
	home, _ := os.UserHomeDir() // without one, only system-wide files
	o := registry.Options{
		Transport: transport.Options{
			Insecure: r.insecure, CAs: r.authorities, ClientCerts: r.certs,
			CertDirs: transport.CertDirs(home), Patience: r.limits.Patience, UserAgent: "cairn/" + versionText(),
		},
		Credentials: auth.Keychain{AuthFile: r.authFile},
		Mirrors:     map[string][]string{},
		ShortNames:  r.shortNames,
	}
	if l := r.login; l != nil {
		o.Credentials = o.Credentials.With(l.host, l.user, l.password, "--creds")
	}
	err := r.checkFiles()
	if err != nil {
		return o, err
	}
	if o.Rules, err = registriesconf.Load(registriesconf.Files(os.Getenv("CONTAINERS_REGISTRIES_CONF"), home)); err != nil {
		return o, err
	}
	if on := os.Getenv("CAIRN_SHORT_NAMES"); on != "" && !r.shortNames {
		if o.ShortNames, err = strconv.ParseBool(on); err != nil {
			return o, usagef("CAIRN_SHORT_NAMES=%q: want 1 or 0", on)
		}
	}
	if len(o.Transport.Insecure) == 0 {
		o.Transport.Insecure = listFromEnv("CAIRN_INSECURE_REGISTRY")
	}
	o.Transport.Insecure = append(o.Transport.Insecure, r.alsoLenient...)
	mirrors := r.mirrors
	if len(mirrors) == 0 {
		mirrors = listFromEnv("CAIRN_REGISTRY_MIRROR")
	}
	for _, m := range mirrors {
		host, mirror, ok := strings.Cut(m, "=")
		if !ok {
			host, mirror = "docker.io", m
		}
		if i := strings.LastIndexByte(m, '@'); i >= 0 {
			return o, usagef("registry mirror xxxxx@%s: user and password are not supported: leave them out and use cairn login", m[i+1:])
		}
		if host == "" || mirror == "" {
			return o, usagef("registry mirror %q: want [HOST=]MIRROR", m)
		}
		o.Mirrors[host] = append(o.Mirrors[host], mirror)
	}
	if r.adjust != nil {
		err = r.adjust(&o)
	}
	return o, err
}

// checkFiles returns an error if a file that the command line or a variable names for
// the access to registries is missing, before a long build needs it.
func (r *registryFlags) checkFiles() error {
	if r.authorities == nil {
		return nil // the command has no flags for registries
	}
	auth, from := r.authFile, "--authfile"
	if auth == "" {
		auth, from = os.Getenv("REGISTRY_AUTH_FILE"), "$REGISTRY_AUTH_FILE"
	}
	if r.noAuth {
		auth = ""
	}
	for _, f := range []struct{ from, name string }{
		{from, auth}, {"$CONTAINERS_REGISTRIES_CONF", os.Getenv("CONTAINERS_REGISTRIES_CONF")}, {"$SSL_CERT_FILE", os.Getenv("SSL_CERT_FILE")},
	} {
		if f.name == "" {
			continue
		}
		if _, err := os.Stat(f.name); err != nil {
			return usagef("%s names a file that cannot be read: %w", f.from, err)
		}
	}
	for host, files := range r.authorities {
		for _, file := range files {
			if err := transport.CheckAuthorities(file); err != nil {
				return usagef("--registry-certificate %s: %w", strings.TrimPrefix(host+"="+file, "="), err)
			}
		}
	}
	for host, cert := range r.certs {
		if err := cert.Check(); err != nil {
			return usagef("--registry-client-cert %s=%s,%s: %w", host, cert.Cert, cert.Key, err)
		}
	}
	dirs := os.Getenv("SSL_CERT_DIR")
	exists := func(dir string) bool { _, err := os.Stat(dir); return err == nil }
	if dirs != "" && !slices.ContainsFunc(filepath.SplitList(dirs), exists) {
		return usagef("$SSL_CERT_DIR names no directory that exists: %s", dirs)
	}
	return nil
}

// listFromEnv returns the words of a variable, separated by commas or spaces.
func listFromEnv(name string) []string {
	return strings.FieldsFunc(os.Getenv(name), func(r rune) bool { return r == ',' || r == ' ' })
}
