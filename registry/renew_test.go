package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
)

// Credentials may expire during a build. When they are refused, by 401 or like ECR
// by 403, they are looked up again.
func TestCredentialsRenewed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			password := "first"
			h := registrytest.Handler(t, server.Options{Auth: func(_, given string, _ bool) bool { return given == password }})
			s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, given, ok := r.BasicAuth(); ok && given != password {
					w.Header().Set("WWW-Authenticate", "Basic")
					w.WriteHeader(status)
					return
				}
				h.ServeHTTP(w, r)
			}))
			o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
			registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", password)
			c, _ := newClient(t, o)
			mustPush(t, c, s.Host+"/app:1", imagetest.New(t, "amd64", false, "a"))
			password = "second"
			err := push(c, s.Host+"/app:2", imagetest.New(t, "amd64", false, "b"))
			if !errors.Is(err, ErrUnauthorized) || !strings.Contains(err.Error(), o.Credentials.DockerDir+"/config.json") {
				t.Errorf("with old credentials: %v", err)
			}
			registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", password)
			mustPush(t, c, s.Host+"/app:2", imagetest.New(t, "amd64", false, "b"))
			wantPulled(t, c, s.Host+"/app:2", imagetest.New(t, "amd64", false, "b"))
		})
	}
}

func TestIdentityTokenRenewed(t *testing.T) {
	t.Parallel()
	s := registrytest.NewTokenServer(t)
	s.Life = 1
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", "old")
	c, _ := newClient(t, o)
	if err := push(c, s.Host+"/app:1", imagetest.New(t, "amd64", false, "a")); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("with old credentials: %v", err)
	}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", "secret")
	mustPush(t, c, s.Host+"/app:1", imagetest.New(t, "amd64", false, "a"))
}
