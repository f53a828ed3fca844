package command

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// dockerContext is a context of docker: a named address of an engine.
type dockerContext struct {
	name       string
	named      bool // by $DOCKER_CONTEXT, not by docker's configuration
	host       string
	tls        string // directory of certificates; "" if there are none
	skipVerify bool   // do not verify the engine's certificate
}

// dockerConfigDir returns the directory of docker's configuration.
func dockerConfigDir() string {
	home, _ := os.UserHomeDir()
	return cmp.Or(os.Getenv("DOCKER_CONFIG"), filepath.Join(home, ".docker"))
}

// selectedContext returns the context that $DOCKER_CONTEXT or docker's configuration
// selects, or nil for the default one.
func selectedContext(dir string) (*dockerContext, error) {
	c := &dockerContext{name: os.Getenv("DOCKER_CONTEXT"), named: true}
	if c.name == "" {
		var config struct{ CurrentContext string }
		if text, err := os.ReadFile(filepath.Join(dir, "config.json")); err == nil {
			_ = json.Unmarshal(text, &config) // reading credentials reports a mistake in the file
		}
		c.name, c.named = config.CurrentContext, false
	}
	if c.name == "" || c.name == "default" {
		return nil, nil
	}
	return c, c.read(dir)
}

// read reads the address of the context.
func (c *dockerContext) read(dir string) error {
	id := sha256.Sum256([]byte(c.name))
	sub := hex.EncodeToString(id[:])
	text, err := os.ReadFile(filepath.Join(dir, "contexts/meta", sub, "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("docker has no context %s in %s: docker context ls lists them", c.name, dir)
	}
	var meta struct {
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	if err == nil {
		err = json.Unmarshal(text, &meta)
	}
	if err != nil {
		return fmt.Errorf("reading the docker context %s: %w", c.name, err)
	}
	engine := meta.Endpoints["docker"]
	if c.host, c.skipVerify = engine.Host, engine.SkipTLSVerify; c.host == "" {
		return fmt.Errorf("the docker context %s has no address of an engine", c.name)
	}
	if certs := filepath.Join(dir, "contexts/tls", sub, "docker"); isDir(certs) {
		c.tls = certs
	}
	return nil
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}
