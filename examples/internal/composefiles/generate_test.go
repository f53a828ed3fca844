package composefiles

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// project is a generated project: its files, and how it is read.
type project struct {
	name  string
	files map[string]string
	order []string // of the Compose files
	env   []string
	args  []string // services to build
}

// generator writes random Compose files that both programs can read without a network.
type generator struct {
	*rand.Rand
	services []string
}

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g *generator) pick(list ...string) string { return list[g.IntN(len(list))] }

// privateKey returns a key in PEM. No result depends on it.
func privateKey() string {
	key, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		panic(err) // the type of the key is supported
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

// generate returns the project of a seed.
func generate(seed uint64) project {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 2))}
	p := project{name: fmt.Sprintf("%03d", seed), files: map[string]string{}, order: []string{"compose.yaml"}}
	for i := range 1 + g.IntN(4) {
		g.services = append(g.services, g.pick("web", "api", "db.main", "job", "x-y")+fmt.Sprint(i))
	}
	p.files["secret.txt"] = "s\n"
	p.files["id_key"] = privateKey()
	if g.chance(60) {
		p.files[".env"] = "FROM_DOTENV=dot\nTAG=dotenv\nQUOTED=\"a b\"\nRAW='$x'\nexport EXPORTED=${FROM_DOTENV}-2\n"
	}
	if g.chance(50) {
		p.env = append(p.env, "TAG=shell", "VERSION=3", "EMPTY=")
	}
	p.files["compose.yaml"] = g.file(true)
	if g.chance(40) {
		p.files["second.yaml"] = g.file(false)
		p.order = append(p.order, "second.yaml")
	}
	if g.chance(25) {
		p.files["compose.yaml"] = "include:\n  - sub/included.yaml\n" + p.files["compose.yaml"]
		p.files["sub/included.yaml"] = "services:\n  included:\n    build:\n      context: ./in\n      args: [SUB, \"T=${SUBVAR:-none}\"]\n    profiles: [extra]\n"
		p.files["sub/.env"] = "SUBVAR=sub\nSUB=from-sub\n"
	}
	if g.chance(30) {
		p.files["base.yaml"] = "services:\n  base:\n    image: base/image:${TAG:-none}\n    build:\n      context: ./base\n      args: {BASE: \"1\", SHARED: base}\n      labels: {from: base}\n      tags: [base:1]\n    environment: {BASEVAR: b}\n"
		p.files["compose.yaml"] += "  extending:\n    extends: {file: base.yaml, service: base}\n    build:\n      args: [SHARED=extended, BASEVAR]\n"
	}
	return p
}

// file returns a Compose file. The first one of a project has all services.
func (g *generator) file(first bool) string {
	var b strings.Builder
	if first && g.chance(40) {
		b.WriteString("name: app-" + g.pick("one", "${TAG:-two}") + "\n")
	}
	b.WriteString("x-build: &common\n  no_cache: true\n  labels: {common: \"yes\"}\n")
	b.WriteString("secrets:\n  file-secret: {file: ./secret.txt}\n  env-secret: {environment: VERSION}\n")
	b.WriteString("services:\n")
	for i, s := range g.services {
		if first || g.chance(60) {
			g.service(&b, s, i, first)
		}
	}
	if first {
		fmt.Fprintf(&b, "  linked:\n    build:\n      context: .\n      additional_contexts:\n        base: service:%s\n        dir: ./dir\n        img: docker-image://alpine:3\n", g.services[0])
	} else if b.Len() > 0 {
		b.WriteString("  late: {build: ./late}\n")
	}
	return b.String()
}

func (g *generator) service(b *strings.Builder, name string, i int, first bool) {
	fmt.Fprintf(b, "  %s:\n", name)
	if g.chance(60) {
		fmt.Fprintf(b, "    image: %s\n", g.pick("reg.example/a/"+strings.ToLower(fmt.Sprint("i", i)), "name:${TAG:-latest}", "x:${UNSET-dash}"))
	}
	if g.chance(30) {
		b.WriteString("    environment: {ENVARG: env, OTHER: \"${TAG}\"}\n")
	}
	if first && g.chance(25) && i > 0 {
		b.WriteString("    profiles: [extra]\n")
	}
	if first && i > 0 && g.chance(25) {
		fmt.Fprintf(b, "    depends_on: [%s]\n", g.services[0])
	}
	if i == 0 || !first || g.chance(80) {
		g.build(b, first)
	} else {
		b.WriteString("    image: only/image\n")
		text := b.String()
		if n := strings.Count(text[strings.LastIndex(text, "  "+name+":\n"):], "    image: "); n > 1 {
			b.Reset()
			b.WriteString(strings.TrimSuffix(text, "    image: only/image\n"))
		}
	}
}

// build writes a build section.
func (g *generator) build(b *strings.Builder, first bool) {
	if first && g.chance(15) {
		b.WriteString("    build: ./short\n")
		return
	}
	b.WriteString("    build:\n")
	if g.chance(20) {
		b.WriteString("      <<: *common\n")
	}
	fmt.Fprintf(b, "      context: %s\n", g.pick(".", "./dir", "dir/../other", "https://git.example/x.git#main", "\"${CTX:-dir}\""))
	keys := g.keys()
	g.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, k := range keys[:g.IntN(7)] {
		fmt.Fprintf(b, "      %s\n", k)
	}
	if g.chance(25) {
		b.WriteString("      x-bake:\n")
		more := slices.Clone(extensions)
		g.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
		for _, k := range more[:1+g.IntN(5)] {
			fmt.Fprintf(b, "        %s\n", k)
		}
	}
}

// keys returns a line for each key of a build section.
func (g *generator) keys() []string {
	dockerfile := "dockerfile: " + g.pick("Dockerfile.dev", "sub/Dockerfile", "../up/Dockerfile")
	if g.chance(30) {
		dockerfile = "dockerfile_inline: \"FROM alpine\\nRUN echo $${HOME}\""
	}
	return []string{
		dockerfile,
		"args: " + g.pick("{A: \"1\", B: null, TAG: null}", "[A=2, VERSION, UNSET, \"C=${TAG:-c}\"]", "{ENVARG: null, N: 5, T: true, D: \"$${x}\"}", "[FROM_DOTENV, QUOTED, RAW, EXPORTED, EMPTY]"),
		"labels: " + g.pick("{l: \"1\", common: \"no\"}", "[a.b=c, empty=]"),
		"target: " + g.pick("stage", "\"${STAGE:-final}\""),
		"tags: " + g.pick("[t:1, t:1, u:2]", "[\"v:${TAG:-x}\"]", "[]"),
		"cache_from: " + g.pick("[a/b:c, \"type=local,src=dir\"]", "[\"type=gha,scope=x\", a/b:c]", "[a/b:c]"),
		"cache_to: " + g.pick("[\"type=local,dest=out\"]", "[\"type=registry,ref=r/c,mode=max\"]", "[type=inline]"),
		"pull: " + g.pick("true", "false", "\"${PULL:-true}\""),
		"no_cache_filter: " + g.pick("[a, b]", "one"),
		"network: " + g.pick("host", "none", "default"),
		"extra_hosts: " + g.pick("[\"h:1.2.3.4\", \"h=5.6.7.8\", \"v6=[::1]\"]", "{h: 1.1.1.1, g: host-gateway}"),
		"shm_size: " + g.pick("64m", "1gb", "131072", "\"${SHM:-2k}\""),
		"ulimits: " + g.pick("{nofile: {soft: 10, hard: 20}, nproc: {soft: 5, hard: 5}}", "{core: {soft: 0, hard: 0}}"),
		"secrets: " + g.pick("[file-secret]", "[{source: file-secret, target: renamed}, env-secret]"),
		"ssh: " + g.pick("[k=id_key]", "{z: id_key, a: ./id_key}"),
		"platforms: " + g.pick("[linux/amd64]", "[linux/arm64, linux/amd64]", "[\"${PLATFORM:-linux/arm64}\"]"),
		"additional_contexts: " + g.pick("{p: ./dir, q: https://example.com/a.tar}", "[\"img=docker-image://alpine\", \"l=oci-layout://lay\"]"),
		"entitlements: " + g.pick("[network.host]", "[security.insecure]"),
		"privileged: " + g.pick("true", "false"),
		"provenance: " + g.pick("false", "true", "mode=max"),
		"sbom: " + g.pick("false", "true", "generator=g/h"),
		"isolation: default",
	}
}

// extensions has a line for each key of x-bake.
var extensions = []string{
	"tags: [xt:1, \"xt:${TAG:-2}\"]", "cache-from: a/x b/y", "cache-to: [\"type=registry,ref=x/y\"]", "platforms: linux/arm64 linux/riscv64",
	"output: [\"type=local,dest=o\", \"type=oci,dest=f.tar\"]", "pull: true", "no-cache: false", "no-cache-filter: [s, t, s]",
	"contexts: {dir: ./elsewhere, extra: target:linked}", "secret: [\"id=xs,src=secret.txt\"]", "ssh: [\"b=id_key\"]", "unknown: 1",
}
