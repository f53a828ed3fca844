package worker

import (
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/index"
)

// FuzzOwner resolves owners against a passwd and a group that an image brings.
func FuzzOwner(f *testing.F) {
	f.Add("root:x:0:0::/root:\n", "wheel:x:1:root\n", "root:wheel")
	f.Add("a:x:5:6:::", "b:x:7:a", "a:b")
	f.Add("a:x:-5:99999999999999:::\n", "b:x:4294967295:\n", "a:b")
	f.Add("::::", ":::,,", "5:x")
	f.Add("a:x:4294967296:1", "", "a")
	f.Fuzz(func(t *testing.T, passwd, group, spec string) {
		file := func(path, text string) index.Entry {
			return index.Entry{Path: path, Type: index.TypeFile, Size: int64(len(text)), Digest: layer.FromBytes([]byte(text)), Content: []byte(text)}
		}
		x := &index.Index{Entries: []index.Entry{{Path: "etc", Type: index.TypeDir, Mode: 0o755}, file("etc/group", group), file("etc/passwd", passwd)}}
		uid, gid, err := owner(index.Empty().With(x), spec, func(string, ...any) {})
		if err == nil && (uid < 0 || gid < 0 || uint64(uid) > 1<<32-2 || uint64(gid) > 1<<32-2) {
			t.Errorf("%q is %d:%d", spec, uid, gid)
		}
	})
}
