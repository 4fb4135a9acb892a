/** The formats of strings as patterns of the whole string. A narrower pattern is right, too: all that it matches is valid. */
const FULL_DATE =
  '\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))'
const FULL_TIME = '(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)'
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?'
const HOSTNAME = `${LABEL}(?:\\.${LABEL}){0,5}`
const OCTET = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'

export const STRING_FORMATS: Readonly<Record<string, string>> = {
  date: FULL_DATE,
  time: FULL_TIME,
  'date-time': `${FULL_DATE}T${FULL_TIME}`,
  duration: 'P(?:\\d{1,4}W|\\d{1,4}Y(?:\\d{1,4}M(?:\\d{1,4}D)?)?|\\d{1,4}D(?:T\\d{1,4}H)?|T\\d{1,4}[HMS])',
  email: `[A-Za-z0-9_+-]{1,30}(?:\\.[A-Za-z0-9_+-]{1,30}){0,3}@${LABEL}(?:\\.${LABEL}){1,4}`,
  hostname: HOSTNAME,
  ipv4: `${OCTET}(?:\\.${OCTET}){3}`,
  ipv6: '(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}',
  uri: `(?:https?|ftp)://${HOSTNAME}(?::[1-9]\\d{0,3})?(?:/[A-Za-z0-9._~-]*)*(?:\\?[A-Za-z0-9._~=&-]*)?(?:#[A-Za-z0-9._~-]*)?`,
  uuid: '[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}',
}
