package transport

import (
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
)

func TestAuthorities(t *testing.T) {
	t.Parallel()
	a := registrytest.NewAuthority(t)
	host := a.Serve(registrytest.Handler(t, server.Options{}), false)
	dir, other := t.TempDir(), t.TempDir()
	registrytest.CopyFile(t, a.File("ca.crt"), filepath.Join(dir, host, "ca.crt"))
	if err := os.MkdirAll(filepath.Join(other, host), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		o    Options
		want string
	}{
		"unknown":            {Options{}, "has a certificate that is not trusted"},
		"folder":             {Options{CertDirs: []string{filepath.Join(dir, "missing"), dir}}, ""},
		"an empty one first": {Options{CertDirs: []string{other, dir}}, "has a certificate that is not trusted"},
		"file":               {Options{CAs: map[string][]string{host: {a.File("ca.crt")}}}, ""},
		"file, any port":     {Options{CAs: map[string][]string{"127.0.0.1": {a.File("ca.crt")}}}, ""},
		"file for all":       {Options{CAs: map[string][]string{"": {a.File("ca.crt")}}}, ""},
		"for another":        {Options{CAs: map[string][]string{"other.example": {a.File("ca.crt")}}}, "has a certificate that is not trusted"},
		"not there":          {Options{CAs: map[string][]string{host: {a.File("none")}}}, a.File("none") + ": no such file"},
		"none":               {Options{CAs: map[string][]string{host: {a.File("ca.key")}}}, a.File("ca.key") + ": no certificate in PEM form"},
	} {
		if err := get(t, test.o, host); test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
}

// The registry requires a client certificate.
func TestClientCert(t *testing.T) {
	t.Parallel()
	a := registrytest.NewAuthority(t)
	host := a.Serve(registrytest.Handler(t, server.Options{}), true)
	a.Issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})

	if err := get(t, Options{CAs: map[string][]string{host: {a.File("ca.crt")}}}, host); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without a certificate: %v", err)
	}
	dir := t.TempDir()
	for _, file := range []string{"ca.crt", "client.cert", "client.key"} {
		registrytest.CopyFile(t, a.File(file), filepath.Join(dir, host, file))
	}
	if err := get(t, Options{CertDirs: []string{dir}}, host); err != nil {
		t.Errorf("directory: %v", err)
	}
	err := get(t, Options{
		CAs: map[string][]string{"": {a.File("ca.crt")}}, ClientCerts: map[string]ClientCert{host: {a.File("client.cert"), a.File("client.key")}},
	}, host)
	if err != nil {
		t.Errorf("files: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, host, "client.key")); err != nil {
		t.Fatal(err)
	}
	if err := get(t, Options{CertDirs: []string{dir}}, host); err == nil || !strings.Contains(err.Error(), "client.cert has no client.key beside it") {
		t.Errorf("half a pair: %v", err)
	}
}

// get sends one request to a host.
func get(t *testing.T, o Options, host string) error {
	t.Helper()
	resp, err := newPool(t, o, nil).Host(HostConfig{Domain: host}).Do(t.Context(), Request{Method: http.MethodGet})
	if err == nil {
		resp.Body.Close()
	}
	return err
}
