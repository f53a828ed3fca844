package stress_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sound checks that the store is intact and that a prune removes all traces of killed
// builds.
func (s *site) sound(t *testing.T) {
	t.Helper()
	s.whole(t)
	done(t, s.command("prune", "--force"))
	s.clean(t)
}

// whole checks that "cairn check" finds no errors.
func (s *site) whole(t *testing.T) {
	t.Helper()
	if out := done(t, s.command("check", "--quiet")); !strings.Contains(out, ": 0 wrong") {
		t.Errorf("cairn check: %s", out)
	}
}

// pushed checks that the registry has the image under a tag.
func (l *lab) pushed(t *testing.T, tag, digest string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodHead, fmt.Sprintf("http://%s/v2/app/manifests/%s", l.registry, tag), nil)
	check(t, err)
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json")
	response, err := http.DefaultClient.Do(request)
	check(t, err)
	response.Body.Close()
	if got := response.Header.Get("Docker-Content-Digest"); got != digest {
		t.Errorf("the registry has %q as app:%s, not %s (%s)", got, tag, digest, response.Status)
	}
}

// clean checks that no mount, process or temporary file of the site is left.
func (s *site) clean(t *testing.T) {
	t.Helper()
	for len(s.mounts()) > 0 { // the kernel destroys namespaces asynchronously
		time.Sleep(5 * time.Millisecond)
	}
	if list := s.processes(); len(list) > 0 {
		t.Errorf("processes are left: %q", list)
	}
	var left []string
	for _, pattern := range []string{
		s.store + "/tmp/*", s.store + "/trash/*", s.store + "/trees/*/*/work", s.temp + "/*", s.out + "/.*", s.home + "/*",
	} {
		list, err := filepath.Glob(pattern)
		check(t, err)
		left = append(left, list...)
	}
	if len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

// mounts lists processes with a mount of a directory of the store.
func (s *site) mounts() (found []string) {
	tables, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err == nil && bytes.Contains(b, []byte(s.store+"/")) {
			found = append(found, name)
		}
	}
	return found
}

// processes lists processes whose root is in the store.
func (s *site) processes() (found []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/root")
	for _, link := range links {
		root, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(root, s.store+"/") {
			command, _ := os.ReadFile(filepath.Dir(link) + "/cmdline")
			found = append(found, link+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return found
}
