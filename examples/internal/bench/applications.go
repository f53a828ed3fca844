package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// application is a bake file to measure.
type application struct {
	name string
	what string
	base string
	goal float64 // highest acceptable ratio
	to   string  // of which the goal is a ratio: a way of building, or another application built by Cairn
	cold bool    // each run starts with empty stores and pushes to new repositories
	plan bool    // nothing is built
	ways []string

	prepare func(ctx context.Context, dir string) error
	fresh   func(dir string) error // before each run
}

// The ways of building an application.
const (
	byBake   = "cairn bake"
	byBuildx = "buildx bake"
	byOne    = "cairn build"
)

func applications() []application {
	all := []string{byBake, byBuildx, byOne}
	return []application{
		{name: "app-cold", what: "five services with a shared base, empty stores", base: "debian", cold: true, goal: 0.5, to: byBuildx, ways: all, prepare: fiveServices},
		{name: "app-warm", what: "the same, nothing changed", base: "debian", goal: 0.1, to: byBuildx, ways: all, prepare: fiveServices},
		{name: "app-edit", what: "the same, one file of one service changed", base: "debian", goal: 0.2, to: byBuildx, ways: all, prepare: fiveServices, fresh: change("web/page")},
		{name: "one", what: "one service, empty stores", base: "debian", cold: true, ways: all, prepare: equalServices(1)},
		{name: "equal8", what: "eight services of the same image, empty stores", base: "debian", cold: true, goal: 1.15, to: "one", ways: all, prepare: equalServices(8)},
		{name: "matrix30", what: "30 targets of one matrix, empty stores", base: "busybox", cold: true, goal: 0.5, to: byBuildx, ways: all, prepare: matrix(30)},
		{name: "plan500", what: "500 targets, planned but not built (buildx: printed)", base: "busybox", plan: true, ways: []string{byBake, byBuildx}, prepare: matrix(500)},
	}
}

// services writes a bake file with a target for each of the names, whose contexts are
// directories of their names. Attributes are added to each.
func services(dir, more string, names ...string) error {
	text := "variable \"REPO\" {}\nvariable \"TAG\" {}\ngroup \"default\" {\n  targets = [\"" + strings.Join(names, `", "`) + "\"]\n}\n" + more
	for _, name := range names {
		text += fmt.Sprintf("target %q {\n  context = %q\n  tags = [\"${REPO}/%s:${TAG}\"]\n}\n", name, name, name)
	}
	return os.WriteFile(filepath.Join(dir, "docker-bake.hcl"), []byte(text), 0o644)
}

// fiveServices writes an application whose Dockerfiles begin with the same stage.
func fiveServices(_ context.Context, dir string) error {
	names := []string{"web", "api", "worker", "job", "admin"}
	for i, name := range names {
		own := filepath.Join(dir, name)
		if err := os.Mkdir(own, 0o755); err != nil {
			return err
		}
		text := "FROM debian:bookworm AS base\nRUN cp -a /usr/share /opt/share && find /opt/share -type f | xargs sha256sum > /opt/sums\nRUN useradd app\n" +
			"FROM base\n" + fmt.Sprintf("ENV SERVICE=%s\n", name)
		for k := range 5 {
			text += fmt.Sprintf("RUN echo %s %d > /f%d\n", name, k, k)
		}
		text += "COPY . /srv\nRUN sha256sum /srv/* > /sums\nUSER app\n"
		if err := dockerfile(own, text); err != nil {
			return err
		}
		for k := range 20 {
			if err := noise(filepath.Join(own, fmt.Sprint("data", k)), (i+1)*50_000); err != nil {
				return err
			}
		}
		if err := noise(filepath.Join(own, "page"), 64); err != nil {
			return err
		}
	}
	return services(dir, "", names...)
}

// equalServices writes n services with the same context and Dockerfile.
func equalServices(n int) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		own := filepath.Join(dir, "app")
		if err := os.Mkdir(own, 0o755); err != nil {
			return err
		}
		text := "FROM debian:bookworm\nRUN cp -a /usr/share /opt/share && find /opt/share -type f | xargs sha256sum > /opt/sums\nCOPY . /srv\nRUN sha256sum /srv/* > /sums\n"
		if err := dockerfile(own, text); err != nil {
			return err
		}
		if err := noise(filepath.Join(own, "data"), 20_000_000); err != nil {
			return err
		}
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint("app", i))
		}
		if err := services(dir, "", names...); err != nil {
			return err
		}
		path := filepath.Join(dir, "docker-bake.hcl")
		file, err := os.ReadFile(path)
		for _, name := range names {
			file = []byte(strings.Replace(string(file), fmt.Sprintf("context = %q", name), `context = "app"`, 1))
		}
		if err != nil {
			return err
		}
		return os.WriteFile(path, file, 0o644)
	}
}

// matrix writes a target with a matrix of n values, each with steps of its own.
func matrix(n int) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		if err := dockerfile(dir, "FROM busybox\nRUN echo shared > /shared\nARG N\nRUN echo $N > /n\nCOPY data /data\n"); err != nil {
			return err
		}
		if err := noise(filepath.Join(dir, "data"), 1_000_000); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "docker-bake.hcl"), fmt.Appendf(nil,
			"variable \"REPO\" {}\nvariable \"TAG\" {}\ntarget \"default\" {\n  name = \"t${n}\"\n  matrix = { n = range(%d) }\n  args = { N = n }\n  tags = [\"${REPO}/t${n}:${TAG}\"]\n}\n", n), 0o644)
	}
}

// appResult holds the measurements of an application for each way of building it.
type appResult struct {
	application
	samples map[string][]sample
}

// measureApplications measures applications in each way in turn. The first round does not
// count.
func (l *lab) measureApplications(ctx context.Context, o options) (results []appResult, err error) {
	b, err := l.newBakers(ctx, o)
	if err != nil {
		return nil, err
	}
	for _, a := range applications() {
		if !o.only.want(a.name) && !slices.ContainsFunc(applications(), func(other application) bool { return other.to == a.name && o.only.want(other.name) }) {
			continue
		}
		dir := filepath.Join(l.dir, a.name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		if err := l.need(ctx, a.base); err != nil {
			return nil, err
		}
		if err := a.prepare(ctx, dir); err != nil {
			return nil, err
		}
		r := appResult{a, map[string][]sample{}}
		for i := range o.runs + 1 {
			for k := range a.ways {
				way := a.ways[(i+k)%len(a.ways)]
				if way == byBuildx && !o.peers.want("buildkit") {
					continue
				}
				s, err := b.once(ctx, way, a, dir, i)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", a.name, way, err)
				}
				fmt.Fprintf(os.Stderr, "%-9s %-12s %9.1f ms %9.1f ms of processors %6.1f MB %5d requests %8.2f MB up\n",
					a.name, way, ms(s.wall), ms(s.cpu), mb(s.peak), s.requests, mb(s.up))
				if i > 0 {
					r.samples[way] = append(r.samples[way], s)
				}
			}
		}
		results = append(results, r)
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	return results, nil
}

func (r appResult) median(way string, of func(sample) time.Duration) time.Duration {
	return median(r.samples[way], of)
}

func wallOf(s sample) time.Duration { return s.wall }
func cpuOf(s sample) time.Duration  { return s.cpu }

// applicationReport returns the report that is checked in as APPLICATIONS.md.
func applicationReport(results []appResult, runs int) string {
	var b strings.Builder
	b.WriteString("# Applications\n\n")
	fmt.Fprintf(&b, "Written by `make bench-peers` on %s, on a machine with %d processors (%s).\n\n",
		time.Now().UTC().Format(time.DateOnly), cores(), firstLine("/proc/cpuinfo", "model name"))
	fmt.Fprintf(&b, "All targets of a bake file are built and pushed to a registry on this machine: by `cairn bake`, by `buildx bake` %s with BuildKit %s\n"+
		"as a remote builder, and by `cairn build` for one target after the other. Times are of the whole commands, medians of %d runs that take turns,\n"+
		"after one that does not count. Processor time is that of the client and the daemon with all steps.\n\n", peersVersion(), buildkitVersion(), runs)
	b.WriteString("| application | cairn bake | buildx bake | cairn build | time ratio | processor time | buildx's | ratio | goal |\n|---|---|---|---|---|---|---|---|---|\n")
	byName := map[string]appResult{}
	for _, r := range results {
		byName[r.name] = r
	}
	for _, r := range results {
		wall, cpu := r.median(byBake, wallOf), r.median(byBake, cpuOf)
		other := r.median(byBuildx, wallOf)
		otherCPU, goal := r.median(byBuildx, cpuOf), cell("%.2f", r.goal)
		wallRatio, cpuRatio := ratio("%.2f", wall, other), ratio("%.2f", cpu, otherCPU)
		if one, ok := byName[r.to]; ok {
			wallRatio, cpuRatio = ratio("%.2f", wall, one.median(byBake, wallOf)), ratio("%.2f", cpu, one.median(byBake, cpuOf))
			goal += " of " + r.to
		}
		fmt.Fprintf(&b, "| %s: %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", r.name, r.what, cell("%.0f ms", ms(wall)), cell("%.0f ms", ms(other)),
			cell("%.0f ms", ms(r.median(byOne, wallOf))), wallRatio, cell("%.0f ms", ms(cpu)), cell("%.0f ms", ms(otherCPU)), cpuRatio, goal)
	}
	b.WriteString("\n## Transfers and memory\n\n| application | way | requests | up | memory |\n|---|---|---|---|---|\n")
	for _, r := range results {
		for _, way := range r.ways {
			list := r.samples[way]
			if len(list) == 0 {
				continue
			}
			var peak int64
			for _, s := range list {
				peak = max(peak, s.peak)
			}
			fmt.Fprintf(&b, "| %s | %s | %d | %.2f MB | %.0f MB |\n", r.name, way,
				median(list, func(s sample) int64 { return s.requests }), mb(median(list, func(s sample) int64 { return s.up })), mb(peak))
		}
	}
	b.WriteString("\n## Every run\n\n")
	for _, r := range results {
		for _, way := range r.ways {
			if len(r.samples[way]) == 0 {
				continue
			}
			fmt.Fprintf(&b, "- %s, %s:", r.name, way)
			for _, s := range r.samples[way] {
				fmt.Fprintf(&b, " %.0f ms", ms(s.wall))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}
