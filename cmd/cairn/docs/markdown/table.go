package markdown

import "strings"

const columnGap = 2 // spaces between columns

// table renders the rows of a table in columns, and wraps cells that do not fit.
func (r *renderer) table() {
	var rows [][]string
	for ; r.next < len(r.lines) && strings.HasPrefix(r.lines[r.next], "|"); r.next++ {
		line := strings.TrimSpace(r.lines[r.next])
		if len(rows) == 1 && strings.Trim(line, "-|: ") == "" {
			continue // below the head
		}
		rows = append(rows, r.cells(line, len(rows) == 0))
	}
	widths := columnWidths(rows, r.Width)
	r.out.WriteString("\n")
	for _, row := range rows {
		r.row(row, widths)
	}
}

// cells splits a line at its bars, but not at escaped ones.
func (r *renderer) cells(line string, head bool) []string {
	const bar = "\ue005"
	line = strings.ReplaceAll(line, `\|`, bar)
	line = strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|")
	var cells []string
	for _, cell := range strings.Split(line, "|") {
		cell = r.inline(strings.ReplaceAll(strings.TrimSpace(cell), bar, "|"))
		if head {
			cell = string(boldOn) + cell + string(boldOff)
		}
		cells = append(cells, cell)
	}
	return cells
}

// columnWidths narrows the widest columns until the table fits.
func columnWidths(rows [][]string, max int) []int {
	var widths []int
	total := 0
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
				total += columnGap
			}
			if w := width(cell); w > widths[i] {
				total += w - widths[i]
				widths[i] = w
			}
		}
	}
	const least = 12
	for total-columnGap > max {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= least {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}

func (r *renderer) row(cells []string, widths []int) {
	columns := make([][]string, len(cells))
	height := 0
	for i, cell := range cells {
		columns[i] = wrapped(cell, widths[i])
		height = max(height, len(columns[i]))
	}
	for n := range height {
		var line strings.Builder
		for i, column := range columns {
			text := ""
			if n < len(column) {
				text = column[n]
			}
			line.WriteString(text)
			if i < len(columns)-1 {
				line.WriteString(strings.Repeat(" ", max(0, widths[i]-width(text))+columnGap))
			}
		}
		r.out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}
