package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// mountView returns the mounts of the last RUN as JSON, one a line.
func mountView(t *testing.T, p *Plan) string {
	t.Helper()
	var b strings.Builder
	for _, m := range lastRun(t, p).Mounts {
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(unescaped(raw))
		b.WriteByte('\n')
	}
	return b.String()
}

func TestMounts(t *testing.T) {
	t.Parallel()
	run := func(flags string) string { return "FROM bare\nWORKDIR /w\nRUN " + flags + " x\n" }
	checkPlans(t, mountView, []planCase{
		{name: "sorted by target", text: run("--mount=type=tmpfs,target=/b --mount=type=tmpfs,target=/a/b --mount=type=tmpfs,target=/a"),
			want: `{"type":"tmpfs","target":"/a"}` + "\n" + `{"type":"tmpfs","target":"/a/b"}` + "\n" + `{"type":"tmpfs","target":"/b"}` + "\n"},
		{name: "relative target", text: run("--mount=type=tmpfs,target=a/../b"), want: `{"type":"tmpfs","target":"/w/b"}` + "\n"},
		{name: "size", text: run("--mount=type=tmpfs,target=/a,size=1k"), want: `{"type":"tmpfs","target":"/a","size":1024}` + "\n"},
		{name: "bind", text: run("--mount=target=/a"), want: `{"type":"bind","target":"/a","read_only":true,"input":1,"source":"/"}` + "\n"},
		{name: "bind of a file", text: run("--mount=target=/a,source=../b/"), want: `{"type":"bind","target":"/a","read_only":true,"input":1,"source":"/b"}` + "\n"},
		{name: "writable bind", text: run("--mount=target=/a,rw"), want: `{"type":"bind","target":"/a","input":1,"source":"/"}` + "\n"},
		{name: "cache", text: run("--mount=type=cache,target=/a"), want: `{"type":"cache","target":"/a","source":"/"}` + "\n"},
		{name: "cache with an owner", text: run("--mount=type=cache,target=/a,uid=1,mode=0700"),
			want: `{"type":"cache","target":"/a","source":"/","owner":{"uid":1,"gid":0,"mode":448}}` + "\n"},
		{name: "owner of one file of a cache", text: run("--mount=type=cache,target=/a,source=b,uid=1"), want: `{"type":"cache","target":"/a","source":"/b"}` + "\n"},
		{name: "secret", text: run("--mount=type=secret,id=a/b"), want: `{"type":"secret","target":"/run/secrets/b","id":"a/b","owner":{"uid":0,"gid":0,"mode":256}}` + "\n"},
		{name: "secret named by its target", text: run("--mount=type=secret,target=/x/key"), want: `{"type":"secret","target":"/x/key","id":"key","owner":{"uid":0,"gid":0,"mode":256}}` + "\n"},
		{name: "secret variable", text: run("--mount=type=secret,id=a,env=TOKEN"), want: `{"type":"secret","id":"a","env":"TOKEN","owner":{"uid":0,"gid":0,"mode":256}}` + "\n"},
		{name: "secret as a variable and a file", text: run("--mount=type=secret,id=a,env=TOKEN,target=/t"), want: `{"type":"secret","target":"/t","id":"a","env":"TOKEN","owner":{"uid":0,"gid":0,"mode":256}}` + "\n"},
		{name: "secret named by its source", text: run("--mount=type=secret,source=b"), want: `{"type":"secret","target":"/run/secrets/b","id":"b","owner":{"uid":0,"gid":0,"mode":256}}` + "\n"},
		{name: "secret with two names", text: run("--mount=type=secret,id=a,source=b"), err: "Dockerfile:3: both source and id can't be set"},
		{name: "required secret of a user", text: run("--mount=type=secret,id=a,required,uid=5,gid=6,mode=0444"),
			want: `{"type":"secret","target":"/run/secrets/a","id":"a","required":true,"owner":{"uid":5,"gid":6,"mode":292}}` + "\n"},
		{name: "two agents", text: run("--mount=type=ssh --mount=type=ssh,id=b,required"),
			want: `{"type":"ssh","target":"/run/buildkit/ssh_agent.0","id":"default","owner":{"uid":0,"gid":0,"mode":384}}` + "\n" +
				`{"type":"ssh","target":"/run/buildkit/ssh_agent.1","id":"b","required":true,"owner":{"uid":0,"gid":0,"mode":384}}` + "\n"},
		{name: "variables", text: "FROM bare\nARG T=/t ID=i\nRUN --mount=type=secret,id=$ID,target=$T x\n", want: `{"type":"secret","target":"/t","id":"i","owner":{"uid":0,"gid":0,"mode":256}}` + "\n"},
	})
}

func TestMountErrors(t *testing.T) {
	t.Parallel()
	run := func(mount string) string { return "FROM bare\nRUN --mount=" + mount + " x\n" }
	var cases []planCase
	for mount, want := range map[string]string{
		"type=tmpfs,target=/":                 "invalid mount target \"/\"",
		"type=bind,target=a/..":               "invalid mount target \"/\"",
		"type=tmpfs,target=/a,source=b":       "a tmpfs mount has no source",
		"type=secret,id=a,env=A=B":            `secret: "A=B" is not a valid variable name`,
		"type=secret,id=a,env=":               `secret: "" is not a valid variable name`,
		"type=ssh,source=a":                   "ssh does not support source",
		"type=cache,target=/a,sharing=mine":   `unsupported sharing value "mine"`,
		"type=cache":                          "invalid mount target \"/\"",
		"type=bind,target=/a,unknown=1":       "unexpected key 'unknown' in 'unknown=1'",
		"type=tmpfs,target=/a,size=9e":        "invalid value for size: 9e",
		"type=cache,target=/a,mode=rwx":       "invalid value rwx for mode",
		"type=cache,target=/a,uid=-1":         "invalid value -1 for uid",
		"type=secret":                         "invalid secret mount. one of source, target required",
		"type=bind,target=/a,from=b,source=c": "docker.io/library/b:latest: file does not exist",
	} {
		cases = append(cases, planCase{name: mount, text: run(mount), err: "Dockerfile:2: " + want})
	}
	checkPlans(t, mountView, cases)
}

// The first agent of a RUN is in SSH_AUTH_SOCK, unless the variable is set already.
func TestAgentVariable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"FROM bare\nRUN --mount=type=ssh,target=/s --mount=type=ssh x\n", "SSH_AUTH_SOCK=/s"},
		{"FROM bare\nENV SSH_AUTH_SOCK=/own\nRUN --mount=type=ssh x\n", "SSH_AUTH_SOCK=/own"},
		{"FROM bare\nRUN x\n", ""},
	} {
		var got []string
		for _, kv := range lastRun(t, mustPlan(t, test.text, nil)).Env {
			if isAgent(kv) {
				got = append(got, kv)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}

func TestCacheIDs(t *testing.T) {
	t.Parallel()
	caches := func(t *testing.T, p *Plan) string {
		t.Helper()
		run := lastRun(t, p)
		var list []string
		for _, c := range run.Extra.Caches {
			list = append(list, fmt.Sprintf("%s=%s,%s", run.Mounts[c.Mount].Target, c.ID, c.Sharing))
		}
		return strings.Join(list, " ")
	}
	checkPlans(t, caches, []planCase{
		{name: "target is the default", text: "FROM bare\nRUN --mount=type=cache,target=/a/../b/ x\n", want: "/b=//b,shared"},
		{name: "id and sharing", text: "FROM bare\nRUN --mount=type=cache,target=/b,id=go,sharing=locked x\n", want: "/b=/go,locked"},
		{name: "namespace", text: "FROM bare\nRUN --mount=type=cache,target=/b,id=go x\n", options: `{"Args":{"BUILDKIT_CACHE_MOUNT_NS":"project"}}`, want: "/b=project/go,shared"},
		{name: "the number is that of the sorted mount", text: "FROM bare\nRUN --mount=type=cache,target=/b,id=1 --mount=type=tmpfs,target=/a --mount=type=cache,target=/a/c,id=2 x\n",
			want: "/a/c=/2,shared /b=/1,shared"},
		{name: "relative target", text: "FROM bare\nWORKDIR /w\nRUN --mount=type=cache,target=c x\n", want: "/w/c=/c,shared"},
	})
}

// A cache mount's ID and sharing mode are not in the key of the step.
func TestCacheIDIsNotInKey(t *testing.T) {
	t.Parallel()
	op := func(flags string) string {
		return mustPlan(t, "FROM bare\nRUN --mount=type=cache,target=/c"+flags+" x\n", nil).Root.Op
	}
	if a, b := op(",id=a"), op(",id=b,sharing=locked"); a != b {
		t.Errorf("two IDs make two keys:\n%s\n%s", a, b)
	}
	if a, b := op(""), op(",ro"); a == b {
		t.Error("a read-only cache has the key of a writable one")
	}
}

// The value of a secret variable is masked in the step's name.
func TestSecretInName(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, "FROM bare\nENV TOKEN=visible\nRUN --mount=type=secret,id=a,env=TOKEN echo $TOKEN\n", nil)
	name := p.Steps[len(p.Steps)-1].Name
	if !strings.HasSuffix(name, "echo ****") {
		t.Errorf("the step is shown as %q", name)
	}
}
