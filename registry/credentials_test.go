package registry

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
)

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// A missing helper for all registries is named when the registry refuses access.
// It is ignored if there are other credentials or if the registry needs none.
func TestHelperMissing(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{Auth: func(user, password string, write bool) bool { return !write || user == "bob" }}))
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	file := filepath.Join(o.Credentials.DockerDir, "config.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	img := imagetest.New(t, "amd64", false, "a")
	write(`{"credsStore":"missing"}`)
	c, _ := newClient(t, o)
	err := push(c, s.Host+"/app:1", img)
	if err == nil || !strings.Contains(err.Error(), "none were found in "+file+" (docker-credential-missing, named in "+file+", is not installed)") {
		t.Errorf("missing helper: %v", err)
	}
	write(`{"credsStore":"missing","auths":{"` + s.Host + `":{"auth":"` + registrytest.Base64("bob:x") + `"}}}`)
	c, _ = newClient(t, o)
	mustPush(t, c, s.Host+"/app:1", img)
	tokens := registrytest.NewTokenServer(t)
	write(`{"credHelpers":{"` + tokens.Host + `":"missing"}}`)
	c, _ = newClient(t, o)
	if _, err := c.ResolveDigest(context.Background(), tokens.Host+"/app:1"); err == nil || !strings.Contains(err.Error(), "docker-credential-missing (named in "+file+"): ") {
		t.Errorf("a helper for this registry: %v", err)
	}
}
