package auth

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/transport"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	config := `{"auths":{
		"exact.example":{"auth":"` + registrytest.Base64("exact:pw:with:colons") + `"},
		"https://old.example/v1/":{"auth":"` + registrytest.Base64("old:pw") + `"},
		"https://index.docker.io/v1/":{"auth":"` + registrytest.Base64("hub:pw") + `"},
		"part.example/team":{"auth":"` + registrytest.Base64("team:pw") + `"},
		"part.example/team/app":{"auth":"` + registrytest.Base64("app:pw") + `"},
		"part.example":{"auth":"` + registrytest.Base64("part:pw") + `"},
		"plain.example":{"username":"plain","password":"pw"},
		"empty.example":{},
		"unpadded.example":{"auth":"` + strings.TrimRight(registrytest.Base64("unpadded:p"), "=") + `"}},
		"psFormat":17}`
	for _, test := range []struct{ domain, repo, user, password string }{
		{"exact.example", "a", "exact", "pw:with:colons"},
		{"old.example", "a", "old", "pw"},
		{"docker.io", "library/busybox", "hub", "pw"},
		{"part.example", "team/app", "app", "pw"},
		{"part.example", "team/app/deep", "app", "pw"},
		{"part.example", "team/other", "team", "pw"},
		{"part.example", "teams/app", "part", "pw"},
		{"plain.example", "a", "plain", "pw"},
		{"empty.example", "a", "", ""},
		{"unpadded.example", "a", "unpadded", "p"},
		{"exact.example.evil.example", "a", "", ""},
		{"evilexact.example", "a", "", ""},
		{"xact.example", "a", "", ""},
	} {
		cred, err := credentialIn(t.Context(), []byte(config), "file", test.domain, test.repo)
		if err != nil || cred.Username != test.user || cred.Password != test.password {
			t.Errorf("%s/%s: %v, %v, want %s", test.domain, test.repo, cred, err, test.user)
		}
	}
	for _, bad := range []string{`{`, `{"auths":{"x.y":{"auth":"!"}}}`, `{"auths":{"x.y":{"auth":"` + registrytest.Base64("nocolon") + `"}}}`, `{"credsStore":"../evil"}`} {
		_, err := credentialIn(t.Context(), []byte(bad), "the-file", "x.y", "a")
		if err == nil || !strings.Contains(err.Error(), "the-file") {
			t.Errorf("%s: error %v, want one that names the file", bad, err)
		}
	}
	if _, err := credentialIn(t.Context(), nil, "file", "x.y", "a"); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

// $DOCKER_CONFIG is read before $HOME, and docker's file before podman's.
func TestLookupOrder(t *testing.T) {
	home, docker, runtime := t.TempDir(), t.TempDir(), t.TempDir()
	for _, dir := range []string{home + "/.docker", home + "/.config/containers", runtime + "/containers"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, user string) {
		body := `{"auths":{"reg.example":{"auth":"` + registrytest.Base64(user+":pw") + `"}}}`
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	for _, name := range []string{"DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", environmentAuths} {
		t.Setenv(name, "")
	}
	want := func(user, source string) {
		t.Helper()
		cred, err := Keychain{}.Lookup(t.Context(), "reg.example", "a")
		if err != nil || cred.Username != user || cred.Source != source {
			t.Errorf("%v, %v, want %s from %s", cred, err, user, source)
		}
	}
	want("", "")
	write(home+"/.config/containers/auth.json", "podman")
	want("podman", home+"/.config/containers/auth.json")
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	write(runtime+"/containers/auth.json", "runtime")
	want("runtime", runtime+"/containers/auth.json")
	t.Setenv("REGISTRY_AUTH_FILE", home+"/file")
	write(home+"/file", "named")
	want("named", home+"/file")
	write(home+"/.docker/config.json", "home")
	want("named", home+"/file")
	t.Setenv("REGISTRY_AUTH_FILE", "")
	want("home", home+"/.docker/config.json")
	t.Setenv("REGISTRY_AUTH_FILE", home+"/file")
	t.Setenv("DOCKER_CONFIG", docker)
	want("named", home+"/file")
	write(docker+"/config.json", "docker")
	want("docker", docker+"/config.json")
	t.Setenv(environmentAuths, `{"auths":{"reg.example":{"auth":"`+registrytest.Base64("env:pw")+`"}}}`)
	want("env", "$DOCKER_AUTH_CONFIG")
}

// installHelper puts a credential helper into PATH and returns the directory in
// which it stores credentials.
func installHelper(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := `#!/bin/sh
cd "` + dir + `"
case $1 in
store) cat > stored;;
get) read key || true; echo "$key" > asked; [ -f stored ] || { echo credentials not found in native keychain; exit 1; }; cat stored;;
erase) rm -f stored;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func TestHelper(t *testing.T) {
	dir := installHelper(t)
	s := imagetest.Serve(t, registrytest.Handler(t, registrytest.Basic("bob", "secret")))
	for name, config := range map[string]string{
		"store": `{"credsStore":"test"}`, "one host": `{"credsStore":"missing","credHelpers":{"` + s.Host + `":"test"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			k := Keychain{DockerDir: t.TempDir()}
			file := filepath.Join(k.DockerDir, "config.json")
			if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			cred, err := k.Lookup(t.Context(), s.Host, "app")
			if err != nil || !cred.Empty() {
				t.Errorf("before: %v, %v", cred, err)
			}
			if err := Login(t.Context(), transport.Options{}, k, s.Host, "bob", "secret"); err != nil {
				t.Fatal(err)
			}
			if b, _ := os.ReadFile(file); strings.Contains(string(b), registrytest.Base64("bob:secret")) || !strings.Contains(string(b), s.Host+`": {}`) {
				t.Errorf("config after login: %s", b)
			}
			cred, err = k.Lookup(t.Context(), s.Host, "app")
			if err != nil || cred.Username != "bob" || cred.Password != "secret" || cred.Source != "docker-credential-test (named in "+file+")" {
				t.Errorf("after: %v, %v", cred, err)
			}
			if b, _ := os.ReadFile(filepath.Join(dir, "asked")); strings.TrimSpace(string(b)) != s.Host {
				t.Errorf("the helper was asked for %q", b)
			}
			if err := Logout(k, s.Host); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "stored")); err == nil {
				t.Error("the helper still has it after logout")
			}
		})
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, registrytest.Basic("bob", "se:cret")))
	k := Keychain{DockerDir: filepath.Join(t.TempDir(), "new")}
	if err := Logout(k, s.Host); err != nil {
		t.Errorf("logout without a config: %v", err)
	}
	if err := Login(t.Context(), transport.Options{}, k, s.Host, "bob", "se:cret"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(k.DockerDir, "config.json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("config.json: %v, %v", info.Mode(), err)
	}
	account, err := WhoAmI(t.Context(), transport.Options{}, k, s.Host)
	if want := (Account{User: "bob", Source: file, Asked: true}); err != nil || account != want {
		t.Errorf("after login: %+v, %v, want %+v", account, err, want)
	}

	// All other fields of the file stay, also if it is a link.
	old := `{"auths":{"other.example":{"auth":"b3RoZXI6cHc=","email":"x"},"https://` + s.Host + `/v1/":{"auth":"x"}},"HttpHeaders":{"A":"b"},"psFormat":"x","unknown":[1,2.50]}`
	target := filepath.Join(t.TempDir(), "real.json")
	if err := errors.Join(os.WriteFile(target, []byte(old), 0o644), os.Remove(file), os.Symlink(target, file)); err != nil {
		t.Fatal(err)
	}
	if err := Login(t.Context(), transport.Options{}, k, s.Host, "bob", "se:cret"); err != nil {
		t.Fatal(err)
	}
	want := `{"auths":{"` + s.Host + `":{"auth":"` + registrytest.Base64("bob:se:cret") + `"},"other.example":{"auth":"b3RoZXI6cHc=","email":"x"}},"HttpHeaders":{"A":"b"},"psFormat":"x","unknown":[1,2.50]}`
	wantJSON(t, target, want)
	if err := Logout(k, s.Host); err != nil {
		t.Fatal(err)
	}
	wantJSON(t, target, strings.Replace(want, `"`+s.Host+`":{"auth":"`+registrytest.Base64("bob:se:cret")+`"},`, "", 1))

	for _, bad := range [][3]string{{s.Host + "/repo", "bob", "x"}, {s.Host, "", "x"}, {s.Host, "bob", ""}, {s.Host, "a:b", "x"}, {"a b", "bob", "x"}} {
		if err := Login(t.Context(), transport.Options{}, k, bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("login %q: no error", bad)
		}
	}
	if err := os.WriteFile(target, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Login(t.Context(), transport.Options{}, k, s.Host, "bob", "se:cret"); err == nil || !strings.Contains(err.Error(), target) {
		t.Errorf("broken config: error %v, want one that names the file", err)
	}
	if b, _ := os.ReadFile(target); string(b) != "{broken" {
		t.Error("a broken config was overwritten")
	}
}

func wantJSON(t testing.TB, file, want string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	decode := func(text string) (v any) {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber() // 2.50 must stay 2.50
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if !reflect.DeepEqual(decode(string(b)), decode(want)) {
		t.Errorf("file is\n%s\nwant\n%s", b, want)
	}
}

func TestLoginDomain(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"": "docker.io", "docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io", "index.docker.io": "docker.io",
		"ghcr.io": "ghcr.io", "https://ghcr.io/": "ghcr.io", "localhost:5000": "localhost:5000",
	} {
		if got, err := loginDomain(host); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", host, got, err, want)
		}
	}
}

func TestAuthFile(t *testing.T) {
	home := t.TempDir()
	t.Setenv("DOCKER_CONFIG", home)
	registrytest.WriteConfig(t, home, "reg.example", "elsewhere", "x")
	k := Keychain{AuthFile: filepath.Join(home, "sub", "auth.json")}
	if _, err := k.Lookup(t.Context(), "reg.example", ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	s := imagetest.Serve(t, registrytest.Handler(t, registrytest.Basic("bob", "secret")))
	if err := Login(t.Context(), transport.Options{}, k, s.Host, "bob", "secret"); err != nil {
		t.Fatal(err)
	}
	wantJSON(t, k.AuthFile, `{"auths":{"`+s.Host+`":{"auth":"`+registrytest.Base64("bob:secret")+`"}}}`)
	if cred, err := k.Lookup(t.Context(), "reg.example", ""); err != nil || !cred.Empty() {
		t.Errorf("another place was asked: %v, %v", cred, err)
	}
	account, err := WhoAmI(t.Context(), transport.Options{}, k, s.Host+"/app")
	if want := (Account{User: "bob", Source: k.AuthFile, Asked: true}); err != nil || account != want {
		t.Errorf("who am I: %+v, %v", account, err)
	}
	if err := Logout(k, s.Host); err != nil {
		t.Fatal(err)
	}
	wantJSON(t, k.AuthFile, `{"auths":{}}`)
}

func TestWhoAmI(t *testing.T) {
	t.Parallel()
	tokens := registrytest.NewTokenServer(t)
	open := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	k := Keychain{DockerDir: t.TempDir()}
	file := filepath.Join(k.DockerDir, "config.json")
	if err := os.WriteFile(file, []byte(`{"auths":{
		"`+tokens.Host+`":{"identitytoken":"refresh"}, "`+tokens.Host+`/team":{"auth":"`+registrytest.Base64("bob:wrong")+`"},
		"`+open.Host+`":{"auth":"`+registrytest.Base64("eve:x")+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Account{
		tokens.Host:                    {Source: file, Asked: true},
		"https://" + tokens.Host + "/": {Source: file, Asked: true},
		open.Host:                      {User: "eve", Source: file},
	} {
		if got, err := WhoAmI(t.Context(), transport.Options{}, k, name); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		tokens.Host + "/team/app": `it refuses the credentials of "bob" from ` + file,
		"none.example":            "not logged in to registry none.example: no credentials in " + file,
		tokens.Host + "/UPPER":    "lower case",
		"a b":                     "is not a host",
	} {
		if _, err := WhoAmI(t.Context(), transport.Options{}, k, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", name, err, want)
		}
	}
}

// A given credential is for its domain only, and takes the place of the files.
func TestKeychainWith(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"auths":{"a.example":{"username":"old","password":"o"},"b.example":{"username":"other","password":"o"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	k := Keychain{DockerDir: dir}
	with := k.With("a.example", "me", "secret", "--creds")
	for domain, want := range map[string]string{"a.example": "me", "b.example": "other", "c.example": ""} {
		if got, err := with.Lookup(t.Context(), domain, "app"); err != nil || got.Username != want {
			t.Errorf("%s: %v, %v; want %s", domain, got, err, want)
		}
	}
	if got, err := k.Lookup(t.Context(), "a.example", "app"); err != nil || got.Username != "old" {
		t.Errorf("the keychain that With was called on has changed: %v, %v", got, err)
	}
}
