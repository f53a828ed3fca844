package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/registry/internal/imagetest"
	"github.com/cairn-build/cairn/registry/serve"
)

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestLookup(t *testing.T) {
	config := `{"auths":{
		"exact.example":{"auth":"` + b64("exact:pw:with:colons") + `"},
		"https://old.example/v1/":{"auth":"` + b64("old:pw") + `"},
		"https://index.docker.io/v1/":{"auth":"` + b64("hub:pw") + `"},
		"part.example/team":{"auth":"` + b64("team:pw") + `"},
		"part.example/team/app":{"auth":"` + b64("app:pw") + `"},
		"part.example":{"auth":"` + b64("part:pw") + `"},
		"plain.example":{"username":"plain","password":"pw"},
		"empty.example":{},
		"unpadded.example":{"auth":"` + strings.TrimRight(b64("unpadded:p"), "=") + `"}},
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
		cred, err := credentialIn(context.Background(), []byte(config), "file", test.domain, test.repo)
		if err != nil || cred.Username != test.user || cred.Password != test.password {
			t.Errorf("%s/%s: %v, %v, want %s", test.domain, test.repo, cred, err, test.user)
		}
	}
	for _, bad := range []string{`{`, `{"auths":{"x.y":{"auth":"!"}}}`, `{"auths":{"x.y":{"auth":"` + b64("nocolon") + `"}}}`, `{"credsStore":"../evil"}`} {
		_, err := credentialIn(context.Background(), []byte(bad), "the-file", "x.y", "a")
		if err == nil || !strings.Contains(err.Error(), "the-file") {
			t.Errorf("%s: error %v, want one that names the file", bad, err)
		}
	}
	if _, err := credentialIn(context.Background(), nil, "file", "x.y", "a"); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

// $DOCKER_CONFIG goes before $HOME, docker's before podman's.
func TestCredentialPlaces(t *testing.T) {
	home, docker, runtime := t.TempDir(), t.TempDir(), t.TempDir()
	for _, dir := range []string{home + "/.docker", home + "/.config/containers", runtime + "/containers"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, user string) {
		body := `{"auths":{"reg.example":{"auth":"` + b64(user+":pw") + `"}}}`
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
		cred, err := Options{}.lookup(context.Background(), "reg.example", "a")
		if err != nil || cred.Username != user || cred.source != source {
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
	t.Setenv(environmentAuths, `{"auths":{"reg.example":{"auth":"`+b64("env:pw")+`"}}}`)
	want("env", "$DOCKER_AUTH_CONFIG")
}

// helper puts a credential helper into PATH that keeps what it is told in a
// folder.
func helper(t *testing.T) (dir string) {
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
	dir := helper(t)
	s := imagetest.Serve(t, handler(t, serve.Options{Auth: func(user, password string, _ bool) bool { return user == "bob" && password == "secret" }}))
	for name, config := range map[string]string{
		"store": `{"credsStore":"test"}`, "one host": `{"credsStore":"missing","credHelpers":{"` + s.Host + `":"test"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Docker: t.TempDir()}
			file := filepath.Join(o.Docker, "config.json")
			if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			cred, err := o.lookup(context.Background(), s.Host, "app")
			if err != nil || !cred.empty() {
				t.Errorf("before: %v, %v", cred, err)
			}
			if err := Login(context.Background(), o, s.Host, "bob", "secret"); err != nil {
				t.Fatal(err)
			}
			if b, _ := os.ReadFile(file); strings.Contains(string(b), b64("bob:secret")) || !strings.Contains(string(b), s.Host+`": {}`) {
				t.Errorf("config after login: %s", b)
			}
			cred, err = o.lookup(context.Background(), s.Host, "app")
			if err != nil || cred.Username != "bob" || cred.Password != "secret" || cred.source != "docker-credential-test (named in "+file+")" {
				t.Errorf("after: %v, %v", cred, err)
			}
			if b, _ := os.ReadFile(filepath.Join(dir, "asked")); strings.TrimSpace(string(b)) != s.Host {
				t.Errorf("the helper was asked for %q", b)
			}
			if err := Logout(o, s.Host); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "stored")); err == nil {
				t.Error("the helper still has it after logout")
			}
		})
	}
}

// A helper for all registries that is not installed is told of when it is
// missed, and keeps nobody from what lies elsewhere or is for everybody.
func TestHelperMissing(t *testing.T) {
	s := imagetest.Serve(t, handler(t, serve.Options{Auth: func(user, password string, write bool) bool { return !write || user == "bob" }}))
	o := Options{Docker: t.TempDir()}
	file := filepath.Join(o.Docker, "config.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	img := imagetest.New(t, "amd64", false, "a")
	write(`{"credsStore":"missing"}`)
	c, _ := newClient(t, o)
	err := push(c, s.Host+"/app:1", img)
	if err == nil || !strings.Contains(err.Error(), "none were found in "+file+" (docker-credential-missing, which "+file+" names: it is not installed)") {
		t.Errorf("missing helper: %v", err)
	}
	write(`{"credsStore":"missing","auths":{"` + s.Host + `":{"auth":"` + b64("bob:x") + `"}}}`)
	c, _ = newClient(t, o)
	mustPush(t, c, s.Host+"/app:1", img)
	tokens := newTokenServer(t)
	write(`{"credHelpers":{"` + tokens.Host + `":"missing"}}`)
	c, _ = newClient(t, o)
	if _, err := c.ResolveDigest(context.Background(), tokens.Host+"/app:1"); err == nil || !strings.Contains(err.Error(), "docker-credential-missing, which "+file+" names: ") {
		t.Errorf("a helper for this registry: %v", err)
	}
}

func TestLogin(t *testing.T) {
	s := imagetest.Serve(t, handler(t, serve.Options{Auth: func(user, password string, _ bool) bool { return user == "bob" && password == "se:cret" }}))
	o := Options{Docker: filepath.Join(t.TempDir(), "new")}
	if err := Logout(o, s.Host); err != nil {
		t.Errorf("logout without a config: %v", err)
	}
	if err := Login(context.Background(), o, s.Host, "bob", "se:cret"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(o.Docker, "config.json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("config.json: %v, %v", info.Mode(), err)
	}
	c, _ := newClient(t, o)
	mustPush(t, c, s.Host+"/app:1", imagetest.New(t, "amd64", false, "a"))

	// Everything else in the file stays, through a link too.
	old := `{"auths":{"other.example":{"auth":"b3RoZXI6cHc=","email":"x"},"https://` + s.Host + `/v1/":{"auth":"x"}},"HttpHeaders":{"A":"b"},"psFormat":"x","unknown":[1,2.50]}`
	real := filepath.Join(t.TempDir(), "real.json")
	if err := errors.Join(os.WriteFile(real, []byte(old), 0o644), os.Remove(file), os.Symlink(real, file)); err != nil {
		t.Fatal(err)
	}
	if err := Login(context.Background(), o, s.Host, "bob", "se:cret"); err != nil {
		t.Fatal(err)
	}
	want := `{"auths":{"` + s.Host + `":{"auth":"` + b64("bob:se:cret") + `"},"other.example":{"auth":"b3RoZXI6cHc=","email":"x"}},"HttpHeaders":{"A":"b"},"psFormat":"x","unknown":[1,2.50]}`
	wantJSON(t, real, want)
	if err := Logout(o, s.Host); err != nil {
		t.Fatal(err)
	}
	wantJSON(t, real, strings.Replace(want, `"`+s.Host+`":{"auth":"`+b64("bob:se:cret")+`"},`, "", 1))

	for _, bad := range [][3]string{{s.Host + "/repo", "bob", "x"}, {s.Host, "", "x"}, {s.Host, "bob", ""}, {s.Host, "a:b", "x"}, {"a b", "bob", "x"}} {
		if err := Login(context.Background(), o, bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("login %q: no error", bad)
		}
	}
	if err := os.WriteFile(real, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Login(context.Background(), o, s.Host, "bob", "se:cret"); err == nil || !strings.Contains(err.Error(), real) {
		t.Errorf("broken config: error %v, want one that names the file", err)
	}
	if b, _ := os.ReadFile(real); string(b) != "{broken" {
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
	for host, want := range map[string]string{
		"": "docker.io", "docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io", "index.docker.io": "docker.io",
		"ghcr.io": "ghcr.io", "https://ghcr.io/": "ghcr.io", "localhost:5000": "localhost:5000",
	} {
		if got, err := loginDomain(host); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", host, got, err, want)
		}
	}
}
