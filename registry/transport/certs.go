package transport

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

// ClientCert is a client certificate with its key, as names of PEM files.
type ClientCert struct{ Cert, Key string }

// CertDirs returns the directories in which podman, docker and rootless docker
// keep the certificates of registries, for a user with this home directory;
// empty means the system's directories only.
func CertDirs(home string) []string {
	dirs := []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
	if home != "" {
		dirs = append([]string{filepath.Join(home, ".config/containers/certs.d"), filepath.Join(home, ".config/docker/certs.d")}, dirs...)
	}
	return dirs
}

// certFiles are the certificates of a host beyond the system's authorities.
type certFiles struct {
	authorities []string
	client      []ClientCert
}

// hostTransports returns transports with the certificates of a host, or nil if
// it has none: own for the host itself, and referred, which presents no client
// certificate, for servers that it refers to.
func (p *Pool) hostTransports(name, addr string, skipVerify bool) (own, referred *http.Transport, err error) {
	files, err := p.o.certFiles(name, addr)
	if err != nil || len(files.authorities)+len(files.client) == 0 {
		return nil, nil, err
	}
	config := &tls.Config{InsecureSkipVerify: skipVerify}
	if len(files.authorities) > 0 {
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool() // the system has none
		}
	}
	for _, file := range files.authorities {
		if err := addAuthorities(config.RootCAs, file); err != nil {
			return nil, nil, fmt.Errorf("authorities of registry %s: %w", name, err)
		}
	}
	referred = p.checked.Clone()
	referred.TLSClientConfig = config.Clone()
	for _, f := range files.client {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate %s for registry %s, with key %s: %w", f.Cert, name, f.Key, err)
		}
		config.Certificates = append(config.Certificates, pair)
	}
	own = p.checked.Clone()
	own.TLSClientConfig = config
	return own, referred, nil
}

func addAuthorities(pool *x509.CertPool, file string) error {
	pem, err := os.ReadFile(file)
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s: no certificate in PEM form", file)
	}
	return err
}

// CheckAuthorities returns an error if a file has no certificates for [Options.CAs].
func CheckAuthorities(file string) error { return addAuthorities(x509.NewCertPool(), file) }

// Check returns an error if the files cannot be read or do not belong together.
func (c ClientCert) Check() error {
	_, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	return err
}

// certFiles returns the certificates configured for a host.
func (o Options) certFiles(name, addr string) (certFiles, error) {
	var found certFiles
	for _, key := range certKeys(name, addr) {
		found.authorities = append(found.authorities, o.CAs[key]...)
		if pair, ok := o.ClientCerts[key]; ok {
			found.client = append(found.client, pair)
		}
	}
	for _, dir := range o.CertDirs {
		for _, key := range certKeys(name, addr) {
			if key == "" || key == "." || key == ".." || key != filepath.Base(key) { // a registry chooses the name of its token server
				continue
			}
			entries, err := os.ReadDir(filepath.Join(dir, key))
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				continue
			}
			if err != nil {
				return certFiles{}, fmt.Errorf("certificates of registry %s: %w", name, err)
			}
			return found, found.add(filepath.Join(dir, key), entries)
		}
	}
	return found, nil
}

// certKeys returns the keys under which certificates for a host may be
// configured.
func certKeys(name, addr string) []string {
	var keys []string
	for _, key := range []string{name, addr, hostname(name), ""} {
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// add adds the files of a directory by their extensions, as docker does.
func (c *certFiles) add(dir string, entries []fs.DirEntry) error {
	has := map[string]bool{}
	for _, e := range entries {
		has[e.Name()] = true
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		base := strings.TrimSuffix(e.Name(), ext)
		path := filepath.Join(dir, e.Name())
		switch ext {
		case ".crt":
			c.authorities = append(c.authorities, path)
		case ".cert":
			if !has[base+".key"] {
				return fmt.Errorf("certificates of registries: %s has no %s.key beside it", path, base)
			}
			c.client = append(c.client, ClientCert{path, filepath.Join(dir, base+".key")})
		case ".key":
			if !has[base+".cert"] {
				return fmt.Errorf("certificates of registries: %s has no %s.cert beside it", path, base)
			}
		}
	}
	return nil
}
