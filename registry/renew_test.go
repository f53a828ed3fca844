package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/registry/internal/imagetest"
	"github.com/cairn-build/cairn/registry/serve"
)

// Credentials that live shorter than a build: those that come in their place
// are found when the old ones are refused, whether by 401 or, as ECR does, by
// 403.
func TestCredentialsRenewed(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			password := "first"
			h := handler(t, serve.Options{Auth: func(_, given string, _ bool) bool { return given == password }})
			s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, given, ok := r.BasicAuth(); ok && given != password {
					w.Header().Set("WWW-Authenticate", "Basic")
					w.WriteHeader(status)
					return
				}
				h.ServeHTTP(w, r)
			}))
			o := Options{Docker: t.TempDir()}
			writeConfig(t, o.Docker, s.Host, "bob", password)
			c, _ := newClient(t, o)
			mustPush(t, c, s.Host+"/app:1", imagetest.New(t, "amd64", false, "a"))
			password = "second"
			err := push(c, s.Host+"/app:2", imagetest.New(t, "amd64", false, "b"))
			if !errors.Is(err, ErrUnauthorized) || !strings.Contains(err.Error(), o.Docker+"/config.json") {
				t.Errorf("with old credentials: %v", err)
			}
			writeConfig(t, o.Docker, s.Host, "bob", password)
			mustPush(t, c, s.Host+"/app:2", imagetest.New(t, "amd64", false, "b"))
			wantPulled(t, c, s.Host+"/app:2", imagetest.New(t, "amd64", false, "b"))
		})
	}
}

func TestIdentityTokenRenewed(t *testing.T) {
	s := newTokenServer(t)
	s.life = 1
	o := Options{Docker: t.TempDir()}
	writeConfig(t, o.Docker, s.Host, "bob", "old")
	c, _ := newClient(t, o)
	if err := push(c, s.Host+"/app:1", imagetest.New(t, "amd64", false, "a")); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("with old credentials: %v", err)
	}
	writeConfig(t, o.Docker, s.Host, "bob", "secret")
	mustPush(t, c, s.Host+"/app:1", imagetest.New(t, "amd64", false, "a"))
}

func TestAuthFile(t *testing.T) {
	home := t.TempDir()
	t.Setenv("DOCKER_CONFIG", home)
	writeConfig(t, home, "reg.example", "elsewhere", "x")
	o := Options{AuthFile: filepath.Join(home, "sub", "auth.json")}
	if _, err := o.lookup(context.Background(), "reg.example", ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	s := imagetest.Serve(t, handler(t, serve.Options{Auth: func(user, password string, _ bool) bool { return user == "bob" && password == "secret" }}))
	if err := Login(context.Background(), o, s.Host, "bob", "secret"); err != nil {
		t.Fatal(err)
	}
	wantJSON(t, o.AuthFile, `{"auths":{"`+s.Host+`":{"auth":"`+b64("bob:secret")+`"}}}`)
	if cred, err := o.lookup(context.Background(), "reg.example", ""); err != nil || !cred.empty() {
		t.Errorf("another place was asked: %v, %v", cred, err)
	}
	account, err := WhoAmI(context.Background(), o, s.Host+"/app")
	if want := (Account{User: "bob", Source: o.AuthFile, Asked: true}); err != nil || account != want {
		t.Errorf("who am I: %+v, %v", account, err)
	}
	if err := Logout(o, s.Host); err != nil {
		t.Fatal(err)
	}
	wantJSON(t, o.AuthFile, `{"auths":{}}`)
}

func TestWhoAmI(t *testing.T) {
	tokens := newTokenServer(t)
	open := imagetest.Serve(t, handler(t, serve.Options{}))
	o := Options{Docker: t.TempDir()}
	file := filepath.Join(o.Docker, "config.json")
	if err := os.WriteFile(file, []byte(`{"auths":{
		"`+tokens.Host+`":{"identitytoken":"refresh"}, "`+tokens.Host+`/team":{"auth":"`+b64("bob:wrong")+`"},
		"`+open.Host+`":{"auth":"`+b64("eve:x")+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Account{
		tokens.Host:                    {Source: file, Asked: true},
		"https://" + tokens.Host + "/": {Source: file, Asked: true},
		open.Host:                      {User: "eve", Source: file},
	} {
		if got, err := WhoAmI(context.Background(), o, name); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		tokens.Host + "/team/app": `it refuses the credentials of "bob" from ` + file,
		"none.example":            "nobody to registry none.example: no credentials in " + file,
		tokens.Host + "/UPPER":    "lower case",
		"a b":                     "is not a host",
	} {
		if _, err := WhoAmI(context.Background(), o, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", name, err, want)
		}
	}
}
