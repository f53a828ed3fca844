package release

import "testing"

func TestChoose(t *testing.T) {
	tests := []struct {
		l       Language
		choose  func(Language, string) Choice
		version string
		want    Choice
	}{
		{Node, Language.Exact, "v22.3.0", Choice{Version: "22"}},
		{Node, Language.Exact, "18", Choice{Version: "18", Old: true}},
		{Node, Language.Exact, "lts/unheard", Choice{Version: "24", Unknown: true}},
		{Node, Language.Exact, "18\nRUN x", Choice{Version: "24", Unknown: true}},
		{Node, Language.Lowest, ">=18", Choice{Version: "22"}},
		{Node, Language.Lowest, "^20 || >=24", Choice{Version: "24"}},
		{Node, Language.Lowest, "18.x", Choice{Version: "18", Old: true}},
		{Node, Language.Lowest, ">= 22.4.0 < 25", Choice{Version: "22"}},
		{Node, Language.Lowest, "*", Choice{Version: "22"}},
		{Node, Language.Lowest, "latest", Choice{Version: "24", Unknown: true}},
		{Go, Language.Minimum, "1.26.1", Choice{Version: "1.26"}},
		{Go, Language.Minimum, "1.13", Choice{Version: "1.25", Raised: true}},
		{Go, Language.Exact, "1.23rc1", Choice{Version: "1.26", Unknown: true}},
		{Python, Language.Newest, ">=3.11,<3.13", Choice{Version: "3.12"}},
		{Python, Language.Newest, "~=3.11.2", Choice{Version: "3.11"}},
		{Python, Language.Newest, "~=3.9", Choice{Version: "3.14"}},
		{Python, Language.Newest, "==3.12.*", Choice{Version: "3.12"}},
		{Python, Language.Newest, "~3.11", Choice{Version: "3.11"}},
		{Python, Language.Newest, "<3.10", Choice{Version: "3.9", Old: true}},
		{Python, Language.Exact, "3", Choice{Version: "3.14"}},
		{Python, Language.Exact, "2.7.18", Choice{Version: "2.7", Old: true}},
		{PHP, Language.Newest, "^8.1|^8.2", Choice{Version: "8.4"}},
		{PHP, Language.Newest, "~8.1", Choice{Version: "8.4"}},
		{PHP, Language.Newest, "~8.2.0", Choice{Version: "8.2"}},
		{PHP, Language.Newest, ">=7.4", Choice{Version: "8.4"}},
		{Ruby, Language.Newest, "~> 3.2.1", Choice{Version: "3.2", Old: true}},
		{Ruby, Language.Newest, "~> 3.2", Choice{Version: "3.4"}},
		{Java, Language.Exact, "21.0.2-tem", Choice{Version: "21"}},
		{DotNet, Language.Exact, "10.0.100", Choice{Version: "10.0"}},
	}
	for _, test := range tests {
		if got := test.choose(test.l, test.version); got != test.want {
			t.Errorf("%s %q: %+v, want %+v", test.l.Name, test.version, got, test.want)
		}
	}
}

func FuzzChoose(f *testing.F) {
	f.Add(">=3.11,<3.13 || ~=3.9")
	f.Fuzz(func(t *testing.T, requirement string) {
		for _, l := range []Language{Go, Node, Python, PHP} {
			for _, c := range []Choice{l.Exact(requirement), l.Lowest(requirement), l.Newest(requirement), l.Minimum(requirement)} {
				if !exact().MatchString(c.Version) || len(c.Version) > 12 {
					t.Errorf("%q is no version", c.Version)
				}
			}
		}
	})
}
