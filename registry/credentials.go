package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A credential is what somebody has for a registry. Its text names its
// source and user, never what is secret.
type credential struct {
	user, password string
	identity       string // a refresh token
	registryToken  string // sent as it is
	source         string
}

func (c credential) empty() bool {
	return c.user == "" && c.identity == "" && c.registryToken == ""
}

func (c credential) String() string {
	if c.user != "" {
		return fmt.Sprintf("the credentials of %q from %s", c.user, c.source)
	}
	return "the token from " + c.source
}

// GoString keeps secrets out of %#v.
func (c credential) GoString() string { return c.String() }

// dockerConfig is what is of interest in docker's config.json; podman's
// auth.json has the same form.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredsStore  string                `json:"credsStore"`
	CredHelpers map[string]string     `json:"credHelpers"`
}

type dockerAuth struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

const environmentAuths = "DOCKER_AUTH_CONFIG"

// dockerDir is the folder of docker's config.json.
func (o Options) dockerDir() (string, error) {
	if o.Docker != "" {
		return o.Docker, nil
	}
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("docker's config.json: %w", err)
	}
	return filepath.Join(home, ".docker"), nil
}

// credentialPlaces are the files that are asked, in order, docker's before
// podman's.
func (o Options) credentialPlaces() []string {
	var places []string
	if dir, err := o.dockerDir(); err == nil {
		places = append(places, filepath.Join(dir, "config.json"))
	}
	if o.Docker != "" {
		return places
	}
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		places = append(places, file)
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
// none.
func (o Options) lookup(ctx context.Context, domain, repo string) (credential, error) {
	if s := os.Getenv(environmentAuths); s != "" && o.Docker == "" {
		cred, err := credentialIn(ctx, []byte(s), "$"+environmentAuths, domain, repo)
		if err != nil || !cred.empty() {
			return cred, err
		}
	}
	for _, file := range o.credentialPlaces() {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && o.Docker == "" {
			continue
		}
		if err != nil {
			return credential{}, fmt.Errorf("credentials: %w", err)
		}
		cred, err := credentialIn(ctx, b, file, domain, repo)
		if err != nil || !cred.empty() {
			return cred, err
		}
	}
	return credential{}, nil
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
			cred, err := auth.credential()
			if err != nil {
				return credential{}, fmt.Errorf("credentials for %s in %s: %w", name, source, err)
			}
			if !cred.empty() {
				cred.source = source
				return cred, nil
			}
		}
	}
	return credential{}, nil
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
	for path := repo; path != "" && path != "."; path = filepath.Dir(path) {
		keys = append(keys, domain+"/"+path)
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

func (a dockerAuth) credential() (credential, error) {
	cred := credential{user: a.Username, password: a.Password, identity: a.IdentityToken, registryToken: a.RegistryToken}
	if a.Auth == "" {
		return cred, nil
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(a.Auth, "=\x00"))
	if err != nil {
		return credential{}, errors.New(`"auth" is not base64`)
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return credential{}, errors.New(`"auth" is not base64 of user:password`)
	}
	cred.user, cred.password = user, strings.TrimRight(password, "\x00")
	return cred, nil
}

const helperTime = 30 * time.Second

// askHelper asks a credential helper; a credential it does not have is empty.
func askHelper(ctx context.Context, helper, key string) (credential, error) {
	out, err := runHelper(ctx, helper, "get", []byte(key))
	if err != nil {
		if strings.Contains(err.Error(), "credentials not found") {
			return credential{}, nil
		}
		return credential{}, err
	}
	var told struct{ Username, Secret string }
	if err := json.Unmarshal(out, &told); err != nil {
		return credential{}, errors.New("its answer is not JSON")
	}
	if told.Username == "<token>" {
		return credential{identity: told.Secret}, nil
	}
	return credential{user: told.Username, password: told.Secret}, nil
}

// runHelper runs a credential helper. What it prints is in the error only
// when it fails: then it is the reason, and no secret.
func runHelper(ctx context.Context, helper, action string, input []byte) ([]byte, error) {
	if strings.ContainsAny(helper, "/\\") {
		return nil, fmt.Errorf("%q is not the name of a program", helper)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+helper, action)
	cmd.Stdin = bytes.NewReader(input)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		said := strings.TrimSpace(string(out))
		if said == "" {
			said = strings.TrimSpace(string(exit.Stderr))
		}
		return nil, fmt.Errorf("%w: %s", err, printable(said))
	}
	return out, err
}
