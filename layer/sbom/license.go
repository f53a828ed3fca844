package sbom

import "strings"

// common are identifiers of the SPDX license list that packages use often. The text of a
// license that is not among them is given as the package states it.
const common = " 0BSD AFL-2.1 AFL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-1.1 Apache-2.0 Artistic-1.0 Artistic-1.0-Perl Artistic-2.0 " +
	"BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause BSD-3-Clause-Clear BSD-4-Clause BSL-1.0 BlueOak-1.0.0 BUSL-1.1 bzip2-1.0.6 " +
	"CC-BY-3.0 CC-BY-4.0 CC-BY-SA-4.0 CC0-1.0 CDDL-1.0 CDDL-1.1 CPL-1.0 curl ECL-2.0 EPL-1.0 EPL-2.0 EUPL-1.2 FSFAP FSFUL FSFULLR FTL " +
	"GFDL-1.2-or-later GFDL-1.3-only GFDL-1.3-or-later GPL-1.0-only GPL-1.0-or-later GPL-2.0 GPL-2.0-only GPL-2.0-or-later GPL-3.0 GPL-3.0-only " +
	"GPL-3.0-or-later HPND ICU IJG ISC LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1 LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0 LGPL-3.0-only " +
	"LGPL-3.0-or-later libpng-2.0 Libpng libtiff MIT MIT-0 MIT-CMU MPL-1.1 MPL-2.0 MS-PL MulanPSL-2.0 NCSA ODC-By-1.0 OFL-1.1 OpenSSL PHP-3.0 PHP-3.01 " +
	"PostgreSQL PSF-2.0 Python-2.0 Python-2.0.1 Ruby Sleepycat SMLNJ TCL Unicode-3.0 Unicode-DFS-2016 Unlicense UPL-1.0 Vim W3C WTFPL X11 Zlib zlib-acknowledgement ZPL-2.1 " +
	"Classpath-exception-2.0 GCC-exception-3.1 LLVM-exception Autoconf-exception-3.0 Bison-exception-2.2 OpenSSL-exception Linux-syscall-note "

// isExpression reports whether a license is an SPDX expression of common identifiers.
func isExpression(s string) bool {
	if !strings.ContainsAny(s, " ()\t") {
		return isCommon(s)
	}
	depth, operand := 0, true // whether an operand is expected
	fields := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(s))
	for _, f := range fields {
		switch f {
		case "(":
			if !operand {
				return false
			}
			depth++
		case ")":
			if depth--; depth < 0 || operand {
				return false
			}
		case "AND", "OR", "WITH":
			if operand {
				return false
			}
			operand = true
		default:
			if !operand || !isCommon(f) {
				return false
			}
			operand = false
		}
	}
	return len(fields) > 0 && depth == 0 && !operand
}

func isCommon(id string) bool {
	id = strings.TrimSuffix(id, "+")
	for at := 0; id != ""; {
		i := strings.Index(common[at:], id)
		if i < 0 {
			return false
		}
		i += at
		if common[i-1] == ' ' && common[i+len(id)] == ' ' {
			return true
		}
		at = i + 1
	}
	return false
}
