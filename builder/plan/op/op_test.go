package op

import (
	"reflect"
	"testing"

	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/layer"
)

// The text of an op is a cache key: it must never change.
func TestEncoding(t *testing.T) {
	t.Parallel()
	epoch := int64(9)
	id := layer.FromBytes(nil)
	for _, c := range []struct {
		op          Op
		text, extra string
	}{
		{Scratch{}, `{"op":"scratch"}`, ""},
		{Stack{}, `{"op":"stack"}`, ""},
		{Context{}, `{"op":"context","name":""}`, ""},
		{Image{DiffIDs: []layer.Digest{id}}, `{"op":"image","diff_ids":["` + string(id) + `"]}`, ""},
		{
			Image{DiffIDs: []layer.Digest{id}, Extra: ImageExtra{Ref: "docker.io/library/a:1", Digest: id, Platform: layer.Platform{OS: "linux", Architecture: "arm64"}}},
			`{"op":"image","diff_ids":["` + string(id) + `"]}`,
			`{"ref":"docker.io/library/a:1","digest":"` + string(id) + `","platform":{"os":"linux","architecture":"arm64"},"layers":null}`,
		},
		{
			Copy{Sources: []CopySource{{Input: 1, Path: "/a<b>"}, {Name: "x", Data: "y"}}, Dest: "/d", DestDir: true, Chmod: "u+x", Epoch: &epoch},
			`{"op":"copy","sources":[{"input":1,"path":"/a<b>"},{"name":"x","data":"y"}],"dest":"/d","dest_dir":true,"chmod":"u+x","epoch":9}`, "",
		},
		{Workdir{Path: "/w", User: "1"}, `{"op":"workdir","path":"/w","user":"1"}`, ""},
		{
			Run{Args: []string{"a"}, Env: []string{"A=b"}, Dir: "/", Platform: "linux/amd64"},
			`{"op":"run","args":["a"],"env":["A=b"],"dir":"/","platform":"linux/amd64"}`, "",
		},
		{
			Run{
				Args: []string{"a"}, Env: []string{}, Dir: "/", Platform: "linux/amd64",
				Mounts: []Mount{{Type: "cache", Target: "/c", Source: "/", Owner: &Owner{UID: 1, Mode: 0o755}}},
				Extra:  RunExtra{Proxy: []string{"P=q"}, Caches: []CacheUse{{ID: "/c", Sharing: "locked"}}},
			},
			`{"op":"run","args":["a"],"env":[],"dir":"/","mounts":[{"type":"cache","target":"/c","source":"/","owner":{"uid":1,"gid":0,"mode":493}}],"platform":"linux/amd64"}`,
			`{"proxy":["P=q"],"caches":[{"mount":0,"id":"/c","sharing":"locked"}]}`,
		},
		{
			NewGit(git.Request{Remote: "https://u:p@h/r.git", Ref: "v1", KeepGitDir: true}),
			`{"op":"git","remote":"https://xxxxx:xxxxx@h/r.git","ref":"v1","keep_git_dir":true}`, `{"url":"https://u:p@h/r.git"}`,
		},
		{
			NewHTTP("https://u:p@h/f.txt", id),
			`{"op":"http","url":"https://xxxxx:xxxxx@h/f.txt","name":"f.txt","digest":"` + string(id) + `"}`, `{"url":"https://u:p@h/f.txt"}`,
		},
	} {
		s := NewStep(c.op)
		if s.Op != c.text || s.Extra != c.extra {
			t.Errorf("%T: got %s and %s, want %s and %s", c.op, s.Op, s.Extra, c.text, c.extra)
		}
		if got, err := Decode(s); err != nil || !reflect.DeepEqual(got, c.op) {
			t.Errorf("%s: got %#v, %v; want %#v", s.Op, got, err, c.op)
		}
		if got := Kind(s); got != c.op.kind() {
			t.Errorf("kind of %s is %q", s.Op, got)
		}
	}
}

func TestSelectionEncoding(t *testing.T) {
	t.Parallel()
	sel := Selection{Paths: []SelPath{CopySource{Path: "/a", Parents: true, Include: "b/*", Unpack: true}.SelPath()}, AnyOwner: true}
	const want = `{"paths":[{"path":"/a","parents":true,"include":"b/*"}],"any_owner":true}`
	if got := sel.Encode(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, err := DecodeSelection(want); err != nil || !reflect.DeepEqual(got, sel) {
		t.Errorf("got %+v, %v; want %+v", got, err, sel)
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "{", `{"op":"x"}`, `{"op":"run","args":1}`, "[]"} {
		if op, err := Decode(&solve.Step{Op: bad}); err == nil {
			t.Errorf("%q: %#v and no error", bad, op)
		}
	}
	if _, err := Decode(&solve.Step{Op: `{"op":"run"}`, Extra: "x"}); err == nil {
		t.Error("a malformed Extra was accepted")
	}
	if _, err := DecodeSelection("x"); err == nil {
		t.Error("a malformed selection was accepted")
	}
}

func TestFromLayers(t *testing.T) {
	t.Parallel()
	if s := FromLayers(nil); Kind(s) != "scratch" {
		t.Errorf("without layers: %+v", s)
	}
	if s := FromLayers([]layer.Digest{layer.FromBytes(nil)}); Kind(s) != "image" || s.Extra != "" {
		t.Errorf("with a layer: %+v", s)
	}
}

func TestFetched(t *testing.T) {
	t.Parallel()
	for _, o := range []Op{Scratch{}, Stack{}, Context{}, Image{}, Copy{}, Workdir{}, Run{}} {
		if Fetched(NewStep(o)) {
			t.Errorf("%T is fetched", o)
		}
	}
	if !Fetched(NewStep(Git{})) || !Fetched(NewStep(HTTP{})) {
		t.Error("git and HTTP sources are not fetched")
	}
}
