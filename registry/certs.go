package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A ClientCert is the certificate that a client shows, as two PEM files.
type ClientCert struct{ Cert, Key string }

// CertDirs are the folders that podman, docker and rootless docker keep the
// certificates of registries in, for a user at home.
func CertDirs(home string) []string {
	dirs := []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
	if home != "" {
		dirs = append([]string{filepath.Join(home, ".config/containers/certs.d"), filepath.Join(home, ".config/docker/certs.d")}, dirs...)
	}
	return dirs
}

// certs are what a host needs beyond the system's authorities.
type certs struct {
	authorities []string
	shown       []ClientCert
}

// transports gives a host transports of its own, if it needs any: the second
// shows no certificate.
func (c *Client) transports(name, addr string, lenient bool) (own, trust *http.Transport, err error) {
	files, err := c.o.certsFor(name, addr)
	if err != nil || len(files.authorities)+len(files.shown) == 0 {
		return nil, nil, err
	}
	config := &tls.Config{InsecureSkipVerify: lenient}
	if len(files.authorities) > 0 {
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool() // no system's: those of the files alone
		}
	}
	for _, file := range files.authorities {
		pem, err := os.ReadFile(file)
		if err == nil && !config.RootCAs.AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s: no certificate in PEM form", file)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("authorities of registry %s: %w", name, err)
		}
	}
	trust = c.checked.Clone()
	trust.TLSClientConfig = config.Clone()
	for _, f := range files.shown {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate %s for registry %s, with key %s: %w", f.Cert, name, f.Key, err)
		}
		config.Certificates = append(config.Certificates, pair)
	}
	own = c.checked.Clone()
	own.TLSClientConfig = config
	return own, trust, nil
}

// certsFor finds the files for a host.
func (o Options) certsFor(name, addr string) (certs, error) {
	var found certs
	for _, key := range hostKeys(name, addr) {
		found.authorities = append(found.authorities, o.CAs[key]...)
		if pair, ok := o.ClientCerts[key]; ok {
			found.shown = append(found.shown, pair)
		}
	}
	for _, dir := range o.CertDirs {
		for _, key := range hostKeys(name, addr) {
			if key == "" || key == "." || key == ".." || key != filepath.Base(key) { // a token server's name is foreign
				continue
			}
			entries, err := os.ReadDir(filepath.Join(dir, key))
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				continue
			}
			if err != nil {
				return certs{}, fmt.Errorf("certificates of registry %s: %w", name, err)
			}
			return found, found.add(filepath.Join(dir, key), entries)
		}
	}
	return found, nil
}

// hostKeys are the keys that certificates for a host may go by.
func hostKeys(name, addr string) []string {
	var keys []string
	for _, key := range []string{name, addr, hostname(name), ""} {
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// add sorts the files of a folder by their endings, as docker does.
func (c *certs) add(dir string, entries []fs.DirEntry) error {
	has := map[string]bool{}
	for _, e := range entries {
		has[e.Name()] = true
	}
	for _, e := range entries {
		base, ending := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())), filepath.Ext(e.Name())
		path := filepath.Join(dir, e.Name())
		switch ending {
		case ".crt":
			c.authorities = append(c.authorities, path)
		case ".cert":
			if !has[base+".key"] {
				return fmt.Errorf("certificates of registries: %s has no %s.key beside it", path, base)
			}
			c.shown = append(c.shown, ClientCert{path, filepath.Join(dir, base+".key")})
		case ".key":
			if !has[base+".cert"] {
				return fmt.Errorf("certificates of registries: %s has no %s.cert beside it", path, base)
			}
		}
	}
	return nil
}
