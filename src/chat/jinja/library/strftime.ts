const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const MONTHS = 'January February March April May June July August September October November December'.split(' ')

/** A date field with its padding width and character. */
type Field = readonly [value: number, width: number, fill?: string]

/** strftime in the C locale, with glibc flags (`%-d`). Unknown codes are copied. */
export function strftime(date: Date, format: string): string {
  return format.replace(/%([-_0^#]?)([\s\S])/gu, (all: string, flag: string, code: string) => {
    if (code === '%') return '%'
    const combined = COMBINED[code]
    if (combined !== undefined) return strftime(date, combined)
    const field = numberOf(date, code)
    if (field) return padded(field, flag)
    const text = wordOf(date, code)
    if (text === undefined) return all
    return flag === '^' || (flag === '#' && code !== 'p')
      ? text.toUpperCase()
      : flag === '#'
        ? text.toLowerCase()
        : text
  })
}

const COMBINED: Readonly<Record<string, string>> = {
  c: '%a %b %e %H:%M:%S %Y',
  D: '%m/%d/%y',
  F: '%Y-%m-%d',
  R: '%H:%M',
  r: '%I:%M:%S %p',
  T: '%H:%M:%S',
  x: '%m/%d/%y',
  X: '%H:%M:%S',
}

function padded([value, width, fill = '0']: Field, flag: string): string {
  if (flag === '-') return String(value)
  return String(value).padStart(width, flag === '_' ? ' ' : flag === '0' ? '0' : fill)
}

function wordOf(date: Date, code: string): string | undefined {
  const day = DAYS[date.getDay()] ?? ''
  const month = MONTHS[date.getMonth()] ?? ''
  switch (code) {
    case 'a':
      return day.slice(0, 3)
    case 'A':
      return day
    case 'b':
    case 'h':
      return month.slice(0, 3)
    case 'B':
      return month
    case 'p':
      return date.getHours() < 12 ? 'AM' : 'PM'
    case 'P':
      return date.getHours() < 12 ? 'am' : 'pm'
    case 'n':
      return '\n'
    case 't':
      return '\t'
    case 'z':
    case 'Z':
      return '' // a time without a zone, as datetime.now() gives
    default:
      return undefined
  }
}

function numberOf(date: Date, code: string): Field | undefined {
  const year = date.getFullYear()
  const hour = date.getHours()
  const weekday = date.getDay()
  const ordinal = dayOfYear(date)
  switch (code) {
    case 'd':
      return [date.getDate(), 2]
    case 'e':
      return [date.getDate(), 2, ' ']
    case 'm':
      return [date.getMonth() + 1, 2]
    case 'y':
      return [year % 100, 2]
    case 'Y':
      return [year, 4]
    case 'C':
      return [Math.floor(year / 100), 2]
    case 'H':
      return [hour, 2]
    case 'k':
      return [hour, 2, ' ']
    case 'I':
      return [hour % 12 || 12, 2]
    case 'l':
      return [hour % 12 || 12, 2, ' ']
    case 'M':
      return [date.getMinutes(), 2]
    case 'S':
      return [date.getSeconds(), 2]
    case 'f':
      return [date.getMilliseconds() * 1000, 6]
    case 'j':
      return [ordinal, 3]
    case 's':
      return [Math.floor(date.getTime() / 1000), 1]
    case 'u':
      return [weekday || 7, 1]
    case 'w':
      return [weekday, 1]
    case 'U':
      return [Math.floor((ordinal + 6 - weekday) / 7), 2]
    case 'W':
      return [Math.floor((ordinal + 6 - ((weekday + 6) % 7)) / 7), 2]
    case 'V':
      return [isoWeek(date).week, 2]
    case 'G':
      return [isoWeek(date).year, 4]
    case 'g':
      return [isoWeek(date).year % 100, 2]
    default:
      return undefined
  }
}

function dayOfYear(date: Date): number {
  const day = Date.UTC(date.getFullYear(), date.getMonth(), date.getDate())
  return Math.round((day - Date.UTC(date.getFullYear(), 0, 1)) / 86_400_000) + 1
}

/** ISO week: belongs to the year of its Thursday. */
function isoWeek(date: Date): { year: number; week: number } {
  const thursday = new Date(date.getFullYear(), date.getMonth(), date.getDate() + 4 - (date.getDay() || 7))
  return { year: thursday.getFullYear(), week: Math.ceil(dayOfYear(thursday) / 7) }
}
