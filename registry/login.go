package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	helpers "github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/cairn-build/cairn/layer/appear"
)

// Login checks user and password against the registry at host, and keeps
// them where docker does: in config.json, or with the helper that it names; or
// in Options.AuthFile.
func Login(ctx context.Context, o Options, host, user, password string) error {
	domain, err := loginDomain(host)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if user == "" || password == "" {
		return fmt.Errorf("log in to %s: user or password is empty", domain)
	}
	if strings.Contains(user, ":") {
		return fmt.Errorf("log in to %s: a user's name has no colon", domain)
	}
	c, err := New(o)
	if err != nil {
		return fmt.Errorf("log in to %s: %w", domain, err)
	}
	defer c.Close()
	h := c.host(domain)
	h.auth.fixed = &credential{authn.AuthConfig{Username: user, Password: password}, "this login"}
	resp, err := h.do(ctx, call{method: http.MethodGet})
	if err != nil {
		return fmt.Errorf("log in to %s: %w", domain, err)
	}
	resp.Body.Close()
	if err := keep(ctx, o, domain, user, password); err != nil {
		return fmt.Errorf("log in to %s: %w", domain, err)
	}
	return nil
}

// Logout forgets the credentials for host; there may be none.
func Logout(o Options, host string) error {
	domain, err := loginDomain(host)
	if err == nil {
		err = forget(context.Background(), o, domain)
	}
	if err != nil {
		return fmt.Errorf("log out of %s: %w", host, err)
	}
	return nil
}

// loginDomain takes a registry's name as people write it.
func loginDomain(host string) (string, error) {
	domain := plainKey(host)
	if domain == "" || domain == "index.docker.io" || domain == hubHost {
		domain = hubName
	}
	if strings.Contains(domain, "/") {
		return "", fmt.Errorf("%q: want the registry's host[:port] alone", host)
	}
	return domain, validDomain(domain)
}

func keep(ctx context.Context, o Options, domain, user, password string) error {
	return o.editConfig(func(raw map[string]json.RawMessage, config dockerConfig) error {
		entry := map[string]string{}
		if helper, key := config.helper(domain); helper != "" {
			secret := &credentials.Credentials{ServerURL: key, Username: user, Secret: password}
			if err := helpers.Store(helperProgram(ctx, helper), secret); err != nil {
				return fmt.Errorf("docker-credential-%s: %w", helper, err)
			}
		} else {
			entry["auth"] = base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		}
		return editAuths(raw, func(auths map[string]json.RawMessage) {
			dropAuths(auths, domain)
			auths[loginKey(domain)], _ = json.Marshal(entry) // strings always marshal
		})
	})
}

func forget(ctx context.Context, o Options, domain string) error {
	return o.editConfig(func(raw map[string]json.RawMessage, config dockerConfig) error {
		if helper, key := config.helper(domain); helper != "" {
			err := helpers.Erase(helperProgram(ctx, helper), key)
			if err != nil && !strings.Contains(err.Error(), "credentials not found") {
				return fmt.Errorf("docker-credential-%s: %w", helper, err)
			}
		}
		if raw["auths"] == nil {
			return nil
		}
		return editAuths(raw, func(auths map[string]json.RawMessage) { dropAuths(auths, domain) })
	})
}

func dropAuths(auths map[string]json.RawMessage, domain string) {
	for _, name := range aliases(domain) {
		for key := range auths {
			if key == name || plainKey(key) == name {
				delete(auths, key)
			}
		}
	}
}

func editAuths(raw map[string]json.RawMessage, edit func(map[string]json.RawMessage)) error {
	auths := map[string]json.RawMessage{}
	if b := raw["auths"]; b != nil {
		if err := json.Unmarshal(b, &auths); err != nil {
			return fmt.Errorf("auths: %w", err)
		}
	}
	if auths == nil {
		auths = map[string]json.RawMessage{}
	}
	edit(auths)
	b, err := json.Marshal(auths)
	raw["auths"] = b
	return err
}

// editConfig rewrites the file of credentials, keeping all that edit leaves
// alone. The file is replaced by rename, for its owner's eyes only.
func (o Options) editConfig(edit func(map[string]json.RawMessage, dockerConfig) error) error {
	path, err := o.configFile()
	if err != nil {
		return err
	}
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to // a link stays a link
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	raw := map[string]json.RawMessage{}
	var config dockerConfig
	if len(bytes.TrimSpace(old)) > 0 {
		if err := json.Unmarshal(old, &raw); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := json.Unmarshal(old, &config); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := edit(raw, config); err != nil {
		return err
	}
	b, err := json.MarshalIndent(raw, "", "\t")
	if err != nil || bytes.Equal(b, old) || len(raw) == 0 && len(old) == 0 {
		return err
	}
	return replaceFile(path, b)
}

func replaceFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return appear.File(path, 0o600, func(f *os.File) error {
		if _, err := f.Write(content); err != nil {
			return err
		}
		return f.Sync()
	})
}
