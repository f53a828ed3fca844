package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"

	"github.com/cairn-build/cairn/layer/atomicfile"
)

// store stores credentials in the helper for a domain, or in the file.
func (k Keychain) store(ctx context.Context, domain, user, password string) error {
	return k.editConfig(func(raw map[string]json.RawMessage, config dockerConfig) error {
		entry := map[string]string{}
		if helper, key := config.helper(domain); helper != "" {
			secret := &credentials.Credentials{ServerURL: key, Username: user, Secret: password}
			if err := client.Store(helperProgram(ctx, helper), secret); err != nil {
				return fmt.Errorf("%s%s: %w", helperPrefix, helper, err)
			}
		} else {
			entry["auth"] = base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		}
		return editAuths(raw, func(auths map[string]json.RawMessage) {
			removeAuths(auths, domain)
			auths[loginKey(domain)], _ = json.Marshal(entry) // strings always marshal
		})
	})
}

// erase removes the credentials for a domain from its helper and from the file.
func (k Keychain) erase(ctx context.Context, domain string) error {
	return k.editConfig(func(raw map[string]json.RawMessage, config dockerConfig) error {
		if helper, key := config.helper(domain); helper != "" {
			err := client.Erase(helperProgram(ctx, helper), key)
			if err != nil && !strings.Contains(err.Error(), "credentials not found") {
				return fmt.Errorf("%s%s: %w", helperPrefix, helper, err)
			}
		}
		if raw["auths"] == nil {
			return nil
		}
		return editAuths(raw, func(auths map[string]json.RawMessage) { removeAuths(auths, domain) })
	})
}

func removeAuths(auths map[string]json.RawMessage, domain string) {
	for _, name := range aliases(domain) {
		for key := range auths {
			if key == name || trimKey(key) == name {
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

// editConfig calls edit with the file's content and writes the result if it
// differs. Fields that edit does not change stay as they are. The file is
// replaced by rename and is readable by its owner only.
func (k Keychain) editConfig(edit func(map[string]json.RawMessage, dockerConfig) error) error {
	path, err := k.configFile()
	if err != nil {
		return err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link stays a link
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
	return atomicfile.File(path, 0o600, func(f *os.File) error {
		if _, err := f.Write(content); err != nil {
			return err
		}
		return f.Sync()
	})
}
