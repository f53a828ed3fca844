package mount

import (
	"maps"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOptionText(t *testing.T) {
	const common = ",index=off,metacopy=off,redirect_dir=nofollow,xino=off,userxattr,volatile"
	for _, test := range []struct {
		overlay Overlay
		want    string
		links   map[string]string
	}{
		{Overlay{Lowers: []string{"/a"}}, "lowerdir=2" + common, map[string]string{"2": "/a"}},
		{Overlay{Lowers: []string{"/a:b,c", "/d"}, Upper: "/u", Work: "/w"}, "lowerdir=2:3,upperdir=0,workdir=1" + common,
			map[string]string{"2": "/a:b,c", "3": "/d", "0": "/u", "1": "/w"}},
	} {
		got, links := test.overlay.optionText()
		if got != test.want || !maps.Equal(links, test.links) {
			t.Errorf("got %s, %v, want %s, %v", got, links, test.want, test.links)
		}
	}
	many := Overlay{Lowers: make([]string, 40)}
	if got, links := many.optionText(); !strings.HasPrefix(got, "lowerdir=2:3:4:5:6:7:8:9:a:b:") || len(links) != 40 || !strings.Contains(got, ":15,index") {
		t.Errorf("got %s, %d links", got, len(links))
	}
}

func TestExplain(t *testing.T) {
	o := Overlay{Upper: "/store/upper"}
	for err, want := range map[unix.Errno]string{
		unix.EPERM: "mount overlay: operation not permitted",
		unix.EINVAL: "mount overlay: invalid argument: overlayfs does not support the file system of /store/upper: " +
			"put the store on a local disk, such as ext4, xfs or btrfs, with --root (see cairn info)",
	} {
		if got := o.explain(err); got.Error() != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}
