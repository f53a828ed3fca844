package reference

import (
	"strings"
	"testing"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestNormalize(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ ref, full, familiar string }{
		{"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"},
		{"me/app", "docker.io/me/app:latest", "me/app:latest"},
		{"docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"localhost/app", "localhost/app:latest", "localhost/app:latest"},
		{"localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"},
		{"[::1]:5000/a/b", "[::1]:5000/a/b:latest", "[::1]:5000/a/b:latest"},
		{"ghcr.io/a/b__c/d-e:X_1.y", "ghcr.io/a/b__c/d-e:X_1.y", "ghcr.io/a/b__c/d-e:X_1.y"},
		{"busybox@" + someDigest, "docker.io/library/busybox@" + someDigest, "busybox@" + someDigest},
		{"busybox:1@" + someDigest, "docker.io/library/busybox:1@" + someDigest, "busybox:1@" + someDigest},
	} {
		full, err := Normalize(test.ref)
		if err != nil || full != test.full {
			t.Errorf("Normalize(%q) = %q, %v, want %q", test.ref, full, err, test.full)
		}
		if got := Familiar(test.full); got != test.familiar {
			t.Errorf("Familiar(%q) = %q, want %q", test.full, got, test.familiar)
		}
	}
}

func TestNormalizeErrors(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"":                                     "it is empty",
		"docker://ghcr.io/a":                   "leave out docker://",
		"https://ghcr.io/a":                    "leave out the scheme",
		"a b":                                  `" " cannot be part of a name`,
		"$IMAGE":                               `"$" cannot be part of a name`,
		"app:":                                 "no tag after the colon",
		"app:-1":                               `tag "-1": want letters`,
		"app:" + strings.Repeat("x", 129):      "the tag has 129 characters",
		"Busybox":                              "the name must be lower case: busybox",
		"localhost:5000/App":                   "the name must be lower case: localhost:5000/app",
		"a//b":                                 "empty part between slashes",
		"/a":                                   "empty part between slashes",
		"a/":                                   "empty part between slashes",
		":tag":                                 "no name before the tag",
		"a@sha256:12":                          "want 64 hex digits",
		"a@md5:12":                             "only sha256 is supported",
		"a@sha512:" + strings.Repeat("0", 128): "only sha256 is supported",
		"a-/b":                                 "want [host[:port]/]name[:tag][@digest]",
	} {
		_, err := Normalize(ref)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Normalize(%.40q): error %v, want %q in it", ref, err, want)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"busybox", "localhost:5000/a/b:c@" + someDigest, "A:b", "[::1]/x", "a@b@c", ":@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		full, err := Normalize(ref)
		if err != nil {
			return
		}
		again, err := Normalize(full)
		if err != nil || again != full {
			t.Errorf("%q became %q, and that %q, %v", ref, full, again, err)
		}
		if back, err := Normalize(Familiar(full)); err != nil || back != full {
			t.Errorf("%q is familiar as %q, which means %q, %v", full, Familiar(full), back, err)
		}
	})
}
