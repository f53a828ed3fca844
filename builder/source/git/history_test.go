package git

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A server of static files ("dumb" HTTP) has no shallow clones, and sends refs only.
func TestStaticFiles(t *testing.T) {
	l := newLab(t)
	files := httptest.NewServer(http.FileServer(http.Dir(l.dir)))
	defer files.Close()
	l.repo("sub.git")
	old := l.commit("sub.git", map[string]string{"f": "sub"})
	l.commit("sub.git", map[string]string{"f": "newer"})
	l.repo("a.git")
	first := l.commit("a.git", map[string]string{"f": "one"})
	l.git("a.git", "tag", "-a", "-m", "m", "v1")
	l.commit("a.git", map[string]string{"f": "two", ".gitmodules": gitmodules("lib", "sub.git")})
	l.git("a.git", "update-index", "--add", "--cacheinfo", "160000,"+old+",lib")
	l.git("a.git", "commit", "-q", "-m", "m")
	for range 2 { // the second time from packs
		for _, repo := range []string{"a.git", "sub.git"} {
			l.git(repo, "update-server-info")
		}
		at := files.URL + "/a.git/.git"
		st := newStore(t)
		modules := "-rw-r--r-- .gitmodules " + gitmodules("lib", "sub.git")
		for url, want := range map[string][]string{
			"":                  {modules, "-rw-r--r-- f two", "-rw-r--r-- lib/f sub", "drwxr-xr-x lib"},
			"#main":             {modules, "-rw-r--r-- f two", "-rw-r--r-- lib/f sub", "drwxr-xr-x lib"},
			"?submodules=false": {modules, "-rw-r--r-- f two", "drwxr-xr-x lib"},
			"#v1":               {"-rw-r--r-- f one"},
			"#" + first:         {"-rw-r--r-- f one"},
			"#main:lib":         {"-rw-r--r-- f sub"},
			"?keep-git-dir=true": {"drwxr-xr-x .git", modules, "-rw-r--r-- f two", "-rw-r--r-- lib/.git gitdir: ../.git/modules/m\n",
				"-rw-r--r-- lib/f sub", "drwxr-xr-x lib"},
		} {
			dir, _, err := l.checkout(Options{Store: st}, at+url)
			if err != nil {
				t.Errorf("%s: %v", url, err)
				continue
			}
			wantList(t, dir, want...)
		}
		for _, repo := range []string{"a.git", "sub.git"} {
			l.git(repo, "gc", "-q")
		}
	}
}

// Old servers do not send the commit of a submodule by its name either.
func TestOldServerOfSubmodule(t *testing.T) {
	l := newLab(t)
	l.protocol = false
	l.repo("sub.git")
	old := l.commit("sub.git", map[string]string{"f": "sub"})
	l.commit("sub.git", map[string]string{"f": "newer"})
	l.repo("a.git")
	l.commit("a.git", map[string]string{".gitmodules": gitmodules("lib", "sub.git")})
	l.git("a.git", "update-index", "--add", "--cacheinfo", "160000,"+old+",lib")
	l.git("a.git", "commit", "-q", "-m", "m")
	dir, _, err := l.checkout(Options{Store: newStore(t)}, l.URL+"/a.git/.git#:lib")
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, dir, "-rw-r--r-- f sub")
}
