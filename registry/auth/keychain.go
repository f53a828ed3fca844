// Package auth finds, verifies and stores credentials for image registries.
//
// A [Keychain] reads the files of docker (config.json) and podman (auth.json)
// and runs the credential helpers that they name. [Login] and [WhoAmI] verify
// credentials with the registry; Login and [Logout] edit docker's file, or the
// one that was named.
package auth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/transport"
)

// Keychain finds credentials in files. The zero value reads the files of docker
// and podman in their usual places. It implements [transport.Credentials].
type Keychain struct {
	// DockerDir is the directory of docker's config.json. If it is set, no
	// other place is read.
	DockerDir string
	// AuthFile is a file in the form of docker's config.json or podman's
	// auth.json. If it is set, no other place is read, and [Login] writes it.
	AuthFile string
	// Native, unless nil, is asked for the registries for which no file has a
	// credential. An empty one may have a problem as its source.
	Native func(ctx context.Context, domain string) transport.Credential

	given map[string]transport.Credential // by domain, instead of all places
}

// With returns a keychain that has a credential for a domain, whatever the files say.
// source names the place of the credential in errors.
func (k Keychain) With(domain, user, password, source string) Keychain {
	k.given = maps.Clone(k.given)
	if k.given == nil {
		k.given = map[string]transport.Credential{}
	}
	k.given[domain] = transport.Credential{AuthConfig: authn.AuthConfig{Username: user, Password: password}, Source: source}
	return k
}

// environmentAuths is the variable that may contain docker's config.json.
const environmentAuths = "DOCKER_AUTH_CONFIG"

// Lookup returns the credential for a repository of a registry. If there is
// none, it returns an empty credential, whose source names a missing helper, if
// any. All files are read in turn, unlike in go-containerregistry's keychain,
// which reads only the first that exists, prefers $HOME to $DOCKER_CONFIG, and
// does not name the source.
func (k Keychain) Lookup(ctx context.Context, domain, repo string) (transport.Credential, error) {
	if cred, ok := k.given[domain]; ok {
		return cred, nil
	}
	var missing string
	for _, s := range k.sources() {
		b, err := s.read()
		if err != nil {
			return transport.Credential{}, fmt.Errorf("credentials: %w", err)
		}
		cred, err := credentialIn(ctx, b, s.name, domain, repo)
		if err != nil || !cred.Empty() {
			return cred, err
		}
		missing = cmp.Or(missing, cred.Source)
	}
	if k.Native != nil {
		cred := k.Native(ctx, domain)
		if !cred.Empty() {
			return cred, nil
		}
		missing = cmp.Or(missing, cred.Source)
	}
	return transport.Credential{Source: missing}, nil
}

// Check returns an error if docker's configuration is there and is not JSON.
func (k Keychain) Check() error {
	for _, s := range k.sources() {
		if file, err := k.configFile(); s.name != "$"+environmentAuths && (err != nil || s.name != file) {
			continue
		}
		b, err := s.read()
		if err != nil {
			return fmt.Errorf("credentials: %w", err)
		}
		if _, err := parseConfig(b, s.name); err != nil {
			return err
		}
	}
	return nil
}

// Searched lists the files that Lookup has read and the missing helper, if any.
func (k Keychain) Searched(none transport.Credential) string {
	text := strings.Join(k.files(), ", ")
	if k.Native != nil {
		text += " or by the built-in credential helpers"
	}
	if none.Source != "" {
		text += " (" + none.Source + ")"
	}
	return text
}

// configFile returns the file that Login and Logout edit.
func (k Keychain) configFile() (string, error) {
	dir := cmp.Or(k.DockerDir, os.Getenv("DOCKER_CONFIG"))
	switch {
	case k.AuthFile != "":
		return k.AuthFile, nil
	case dir != "":
		return filepath.Join(dir, "config.json"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("docker's config.json: %w", err)
	}
	return filepath.Join(home, ".docker/config.json"), nil
}

// exclusive reports whether only one file is read.
func (k Keychain) exclusive() bool { return k.AuthFile != "" || k.DockerDir != "" }

// files returns the files to read, in order: those that the environment names,
// then docker's, then podman's.
func (k Keychain) files() []string {
	var files []string
	if file, err := k.configFile(); err == nil {
		files = append(files, file)
	}
	if k.exclusive() {
		return files
	}
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		at := len(files)
		if os.Getenv("DOCKER_CONFIG") == "" { // docker's file was not named
			at = 0
		}
		files = slices.Insert(files, at, file)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers/auth.json"))
	}
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "containers/auth.json"))
	}
	return files
}

// A source is a file or a variable with credentials.
type source struct {
	name string
	read func() ([]byte, error) // returns nil if it is missing
}

func (k Keychain) sources() []source {
	var all []source
	if s := os.Getenv(environmentAuths); s != "" && !k.exclusive() {
		all = append(all, source{"$" + environmentAuths, func() ([]byte, error) { return []byte(s), nil }})
	}
	for _, file := range k.files() {
		all = append(all, source{file, func() ([]byte, error) {
			b, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) && k.AuthFile == "" || errors.Is(err, fs.ErrPermission) && !k.exclusive() {
				return nil, nil
			}
			return b, err
		}})
	}
	return all
}

// dockerConfig is the part of docker's config.json with credentials. Podman's
// auth.json has the same form.
type dockerConfig struct {
	Auths       map[string]json.RawMessage `json:"auths"` // each an authn.AuthConfig
	CredsStore  string                     `json:"credsStore"`
	CredHelpers map[string]string          `json:"credHelpers"`
}

// parseConfig parses the content of a source, which may be empty.
func parseConfig(config []byte, source string) (c dockerConfig, err error) {
	if len(bytes.TrimSpace(config)) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return c, fmt.Errorf("credentials in %s: %w", source, err)
	}
	return c, nil
}

// credentialIn returns the credential for a repository from config, the content
// of the file source.
func credentialIn(ctx context.Context, config []byte, source, domain, repo string) (transport.Credential, error) {
	c, err := parseConfig(config, source)
	if err != nil {
		return transport.Credential{}, err
	}
	helper, key := c.helper(domain)
	var missing string
	if c.lacksStore(domain) {
		missing = fmt.Sprintf("%s%s, named in %s, is not installed", helperPrefix, helper, source)
		helper = ""
	}
	if helper != "" {
		cred, err := askHelper(ctx, helper, key)
		if err != nil {
			return transport.Credential{}, fmt.Errorf("credentials for %s: %s%s (named in %s): %w", domain, helperPrefix, helper, source, err)
		}
		if !cred.Empty() {
			cred.Source = fmt.Sprintf("%s%s (named in %s)", helperPrefix, helper, source)
			return cred, nil
		}
	}
	for _, key := range authKeys(domain, repo) {
		for name, auth := range c.Auths {
			if name != key && trimKey(name) != key {
				continue
			}
			cred, err := decodeAuth(auth)
			if err != nil {
				return transport.Credential{}, fmt.Errorf("credentials for %s in %s: %w", name, source, err)
			}
			if !cred.Empty() {
				cred.Source = source
				return cred, nil
			}
		}
	}
	return transport.Credential{Source: missing}, nil
}

// lacksStore reports whether the helper for a domain is the one for all domains
// and is not installed. Such a line is often left over from another machine, so
// it is an error only when the registry refuses.
func (c dockerConfig) lacksStore(domain string) bool {
	for _, name := range aliases(domain) {
		if c.CredHelpers[name] != "" {
			return false
		}
	}
	if c.CredsStore == "" || strings.ContainsAny(c.CredsStore, "/\\") {
		return false
	}
	_, err := exec.LookPath(helperPrefix + c.CredsStore)
	return err != nil
}

// helper returns the name of the credential helper for a domain, or "", and the
// key under which it stores the domain's credentials.
func (c dockerConfig) helper(domain string) (helper, key string) {
	for _, name := range aliases(domain) {
		if h := c.CredHelpers[name]; h != "" {
			return h, name
		}
	}
	return c.CredsStore, loginKey(domain)
}

func decodeAuth(raw json.RawMessage) (transport.Credential, error) {
	var auth authn.AuthConfig
	if err := json.Unmarshal(raw, &auth); err != nil {
		return transport.Credential{}, err
	}
	auth.Password = strings.TrimRight(auth.Password, "\x00") // old versions of docker padded it
	return transport.Credential{AuthConfig: auth}, nil
}

const hubLogin = "https://index.docker.io/v1/" // docker's key for Docker Hub

// loginKey returns docker's key for a domain in its config.
func loginKey(domain string) string {
	if domain == reference.Hub {
		return hubLogin
	}
	return domain
}

// aliases returns the keys under which a domain's credentials may be stored.
func aliases(domain string) []string {
	if domain == reference.Hub {
		return []string{hubLogin, reference.Hub, "index.docker.io", reference.HubHost}
	}
	return []string{domain}
}

// authKeys returns the keys under which credentials for a repository may be
// stored, the most specific first: podman stores some for a part of a registry.
func authKeys(domain, repo string) []string {
	var keys []string
	for end := len(repo); end > 0; end = strings.LastIndexByte(repo[:end], '/') {
		keys = append(keys, domain+"/"+repo[:end])
	}
	return append(keys, aliases(domain)...)
}

// trimKey removes the scheme and the API version from a key of an old config.
func trimKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ := strings.Cut(key, "/")
	switch strings.TrimSuffix(path, "/") {
	case "", "v1", "v2":
		return host
	}
	return key
}
