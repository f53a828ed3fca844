package filecopy

import (
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// FuzzOwner resolves owners with the passwd and group files of an image.
func FuzzOwner(f *testing.F) {
	f.Add("root:x:0:0::/root:\n", "wheel:x:1:root\n", "root:wheel")
	f.Add("a:x:5:6:::", "b:x:7:a", "a:b")
	f.Add("a:x:-5:99999999999999:::\n", "b:x:4294967295:\n", "a:b")
	f.Add("::::", ":::,,", "5:x")
	f.Add("a:x:4294967296:1", "", "a")
	f.Fuzz(func(t *testing.T, passwd, group, spec string) {
		file := func(path, text string) listing.Entry {
			return listing.Entry{Path: path, Type: listing.TypeFile, Size: int64(len(text)), Digest: layer.FromBytes([]byte(text)), Content: []byte(text)}
		}
		x := &listing.Listing{Entries: []listing.Entry{{Path: "etc", Type: listing.TypeDir, Mode: 0o755}, file("etc/group", group), file("etc/passwd", passwd)}}
		uid, gid, err := Owner(listing.Empty().WithLayer(x), spec, func(string, ...any) {})
		if err == nil && (uid < 0 || gid < 0 || uint64(uid) > 1<<32-2 || uint64(gid) > 1<<32-2) {
			t.Errorf("%q is %d:%d", spec, uid, gid)
		}
	})
}
