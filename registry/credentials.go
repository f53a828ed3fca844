package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	helpers "github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
)

// A credential is what somebody has for a registry. Its text names its
// source and user, never what is secret. It is an authn.Authenticator.
type credential struct {
	authn.AuthConfig
	source string
}

// Authorization gives it to go-containerregistry.
func (c credential) Authorization() (*authn.AuthConfig, error) { return &c.AuthConfig, nil }

func (c credential) empty() bool {
	return c.Username == "" && c.IdentityToken == "" && c.RegistryToken == ""
}

func (c credential) String() string {
	if c.Username != "" {
		return fmt.Sprintf("the credentials of %q from %s", c.Username, c.source)
	}
	return "the token from " + c.source
}

// GoString keeps secrets out of %#v.
func (c credential) GoString() string { return c.String() }

// dockerConfig is what is of interest in docker's config.json; podman's
// auth.json has the same form.
type dockerConfig struct {
	Auths       map[string]json.RawMessage `json:"auths"` // each an authn.AuthConfig
	CredsStore  string                     `json:"credsStore"`
	CredHelpers map[string]string          `json:"credHelpers"`
}

const environmentAuths = "DOCKER_AUTH_CONFIG"

// configFile is the file that Login and Logout edit.
func (o Options) configFile() (string, error) {
	dir := cmp.Or(o.Docker, os.Getenv("DOCKER_CONFIG"))
	switch {
	case o.AuthFile != "":
		return o.AuthFile, nil
	case dir != "":
		return filepath.Join(dir, "config.json"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("docker's config.json: %w", err)
	}
	return filepath.Join(home, ".docker/config.json"), nil
}

// only says whether credentials are kept in one place that was named.
func (o Options) only() bool { return o.AuthFile != "" || o.Docker != "" }

// credentialPlaces are the files that are asked, in order: those that the
// environment names, then docker's, then podman's.
func (o Options) credentialPlaces() []string {
	var places []string
	if file, err := o.configFile(); err == nil {
		places = append(places, file)
	}
	if o.only() {
		return places
	}
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		at := len(places)
		if os.Getenv("DOCKER_CONFIG") == "" { // docker's folder is nobody's choice
			at = 0
		}
		places = slices.Insert(places, at, file)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		places = append(places, filepath.Join(dir, "containers/auth.json"))
	}
	if dir, err := os.UserConfigDir(); err == nil {
		places = append(places, filepath.Join(dir, "containers/auth.json"))
	}
	return places
}

// lookup finds the credential for a repository; an empty one when there is
// none, whose source then says why not, if there is something to say. It asks
// all places in turn. go-containerregistry's own keychain would ask $HOME
// before $DOCKER_CONFIG, only the first file that there is, and not say where
// it found what it found.
func (o Options) lookup(ctx context.Context, domain, repo string) (credential, error) {
	var lacks string
	for _, p := range o.places() {
		b, err := p.read()
		if err != nil {
			return credential{}, fmt.Errorf("credentials: %w", err)
		}
		cred, err := credentialIn(ctx, b, p.source, domain, repo)
		if err != nil || !cred.empty() {
			return cred, err
		}
		lacks = cmp.Or(lacks, cred.source)
	}
	return credential{source: lacks}, nil
}

// placesText names the places that were asked for none, and what was wrong
// with one of them.
func (o Options) placesText(none credential) string {
	text := strings.Join(o.credentialPlaces(), ", ")
	if none.source != "" {
		text += " (" + none.source + ")"
	}
	return text
}

// A place is one of those that credentials may lie in.
type place struct {
	source string
	read   func() ([]byte, error)
}

func (o Options) places() []place {
	var all []place
	if s := os.Getenv(environmentAuths); s != "" && !o.only() {
		all = append(all, place{"$" + environmentAuths, func() ([]byte, error) { return []byte(s), nil }})
	}
	for _, file := range o.credentialPlaces() {
		all = append(all, place{file, func() ([]byte, error) {
			b, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) && o.AuthFile == "" || errors.Is(err, fs.ErrPermission) && !o.only() {
				return nil, nil
			}
			return b, err
		}})
	}
	return all
}

func credentialIn(ctx context.Context, b []byte, source, domain, repo string) (credential, error) {
	var config dockerConfig
	if len(bytes.TrimSpace(b)) == 0 {
		return credential{}, nil
	}
	if err := json.Unmarshal(b, &config); err != nil {
		return credential{}, fmt.Errorf("credentials in %s: %w", source, err)
	}
	helper, key := config.helper(domain)
	lacks := config.missing(domain)
	if lacks != "" {
		helper, lacks = "", fmt.Sprintf("docker-credential-%s, which %s names: %s", config.CredsStore, source, lacks)
	}
	if helper != "" {
		cred, err := askHelper(ctx, helper, key)
		if err != nil {
			return credential{}, fmt.Errorf("credentials for %s: docker-credential-%s, which %s names: %w", domain, helper, source, err)
		}
		if !cred.empty() {
			cred.source = fmt.Sprintf("docker-credential-%s (named in %s)", helper, source)
			return cred, nil
		}
	}
	for _, key := range authKeys(domain, repo) {
		for name, auth := range config.Auths {
			if name != key && plainKey(name) != key {
				continue
			}
			cred, err := decodeAuth(auth)
			if err != nil {
				return credential{}, fmt.Errorf("credentials for %s in %s: %w", name, source, err)
			}
			if !cred.empty() {
				cred.source = source
				return cred, nil
			}
		}
	}
	return credential{source: lacks}, nil
}

// missing says that the helper for a domain is not installed, if it is the one
// for all: such a line is often left over from another machine, and only
// matters when the registry refuses.
func (c dockerConfig) missing(domain string) string {
	for _, name := range aliases(domain) {
		if c.CredHelpers[name] != "" {
			return ""
		}
	}
	if c.CredsStore == "" || strings.ContainsAny(c.CredsStore, "/\\") {
		return ""
	}
	if _, err := exec.LookPath("docker-credential-" + c.CredsStore); err != nil {
		return "it is not installed"
	}
	return ""
}

// helper is the program that keeps the credentials of a domain, and the name
// that it knows the domain by.
func (c dockerConfig) helper(domain string) (helper, key string) {
	for _, name := range aliases(domain) {
		if h := c.CredHelpers[name]; h != "" {
			return h, name
		}
	}
	return c.CredsStore, loginKey(domain)
}

// loginKey is docker's name for a domain in its config.
func loginKey(domain string) string {
	if domain == hubName {
		return hubLogin
	}
	return domain
}

// aliases are the names that a domain's credentials may go by.
func aliases(domain string) []string {
	if domain == hubName {
		return []string{hubLogin, hubName, "index.docker.io", hubHost}
	}
	return []string{domain}
}

// authKeys are the keys that credentials may lie under, the most special
// first: podman keeps some for part of a registry.
func authKeys(domain, repo string) []string {
	var keys []string
	for end := len(repo); end > 0; end = strings.LastIndexByte(repo[:end], '/') {
		keys = append(keys, domain+"/"+repo[:end])
	}
	return append(keys, aliases(domain)...)
}

// plainKey takes scheme and API version off a key of old configs.
func plainKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ := strings.Cut(key, "/")
	switch strings.TrimSuffix(path, "/") {
	case "", "v1", "v2":
		return host
	}
	return key
}

func decodeAuth(raw json.RawMessage) (credential, error) {
	var cred credential
	if err := json.Unmarshal(raw, &cred.AuthConfig); err != nil {
		return credential{}, err
	}
	cred.Password = strings.TrimRight(cred.Password, "\x00") // old docker padded it
	return cred, nil
}

const helperTime = 30 * time.Second

// askHelper asks a credential helper; a credential it does not have is empty.
func askHelper(ctx context.Context, helper, key string) (credential, error) {
	told, err := helpers.Get(helperProgram(ctx, helper), key)
	if credentials.IsErrCredentialsNotFound(err) {
		return credential{}, nil
	}
	if err != nil {
		return credential{}, err
	}
	if told.Username == "<token>" {
		return credential{AuthConfig: authn.AuthConfig{IdentityToken: told.Secret}}, nil
	}
	return credential{AuthConfig: authn.AuthConfig{Username: told.Username, Password: told.Secret}}, nil
}

// helperProgram runs a credential helper as docker's library wants it run,
// but for so long only.
func helperProgram(ctx context.Context, helper string) helpers.ProgramFunc {
	return func(args ...string) helpers.Program { return &program{ctx: ctx, helper: helper, args: args} }
}

type program struct {
	ctx    context.Context // which Output cannot be given
	helper string
	args   []string
	input  io.Reader
}

func (p *program) Input(in io.Reader) { p.input = in }

// Output runs the helper. What it prints is in the error only when it fails:
// then it is the reason, and no secret.
func (p *program) Output() ([]byte, error) {
	if strings.ContainsAny(p.helper, "/\\") {
		return nil, fmt.Errorf("%q is not the name of a program", p.helper)
	}
	ctx, cancel := context.WithTimeout(p.ctx, helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+p.helper, p.args...)
	cmd.Stdin = p.input
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if len(bytes.TrimSpace(out)) == 0 {
			out = exit.Stderr
		}
		out = []byte(printable(strings.TrimSpace(string(out))))
	}
	return out, err
}
